"""This module tests how the blocking client and the asyncio client connect to a server."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from conftest import Connect
from fake import FakeServer

import runhub
from runhub.v1 import GetServerInfoRequest


@contextmanager
def reserve_port() -> Generator[str]:
    """Reserves a port that refuses connections, and yields the address of the port.

    A gRPC server can still bind the port, because the socket and the gRPC server set SO_REUSEPORT.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


async def read_log_id(connect: Connect, server: str) -> str:
    return (await connect(server).call("server", "GetServerInfo", GetServerInfoRequest())).log_id


async def test_client_connects_to_unix_socket(connect: Connect, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/run hub.sock"
    server = FakeServer(address.replace(" ", "%20"))
    assert await read_log_id(connect, address) == "log"
    server.stop()


async def test_client_connects_to_http_address(fake: FakeServer, connect: Connect) -> None:
    assert await read_log_id(connect, f"http://{fake.address}") == "log"


async def test_client_ignores_proxy_environment_variables(
    fake: FakeServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert await read_log_id(connect, fake.address) == "log"


async def test_call_reaches_server_that_starts_after_the_client(connect: Connect) -> None:
    with reserve_port() as address:
        client = connect(address, deadline=3)
        with pytest.raises(runhub.Error) as raised:
            await client.call("server", "GetServerInfo", GetServerInfoRequest())
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        late = FakeServer(address)
        await client.call("server", "GetServerInfo", GetServerInfoRequest(), timeout=30)
        late.stop()


def test_errors_can_be_pickled() -> None:
    field = runhub.FieldProblem("goal", "is blank")
    error = runhub.InvalidField(grpc.StatusCode.INVALID_ARGUMENT, "no", "INVALID_FIELD", {"a": "b"}, [field], 1.0)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.reason, copy.fields) == (runhub.InvalidField, "INVALID_FIELD", [field])
    assert (copy.metadata, copy.retry_delay, str(copy)) == ({"a": "b"}, 1.0, str(error))
    assert pickle.loads(pickle.dumps(runhub.LeaseLost("taken"))).because == "taken"
