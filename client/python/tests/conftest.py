"""This module defines the fixtures that the tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest
from clients import AnyClient, AsyncioClient, BlockingClient
from fake import FakeServer


class Connect(Protocol):
    """Returns a client of the server. The fixture closes the client after the test."""

    def __call__(self, server: str, *, deadline: float = 30.0) -> AnyClient: ...


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture(params=[BlockingClient, AsyncioClient])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        def connect(server: str, *, deadline: float = 30.0) -> AnyClient:
            client: AnyClient = request.param(server, deadline)
            stack.push_async_callback(client.close)
            return client

        yield connect
