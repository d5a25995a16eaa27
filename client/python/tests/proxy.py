"""This module runs a TCP proxy in front of a fake server. The proxy counts the connections that clients keep open."""

from __future__ import annotations

import asyncio
import gc
from asyncio import StreamReader, StreamWriter
from types import TracebackType

from fake import TIMEOUT


class Proxy:
    """Forwards each connection to the server at the address `HOST:PORT`."""

    def __init__(self, server: str) -> None:
        self._host, self._port = server.split(":")
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for connection in self._connections:
            connection.cancel()

    @property
    def connection_count(self) -> int:
        """Returns how many connections are open."""
        return len(self._connections)

    async def wait_until_unused(self) -> None:
        """Waits until no connection is open. Fails the test if a connection is still open after TIMEOUT."""
        await asyncio.wait_for(self._wait_until_unused(), TIMEOUT)

    async def _wait_until_unused(self) -> None:
        while self._connections:
            # A call of grpc.aio keeps the connection of a closed channel open until Python collects the call.
            gc.collect()
            await asyncio.sleep(0.01)

    def _forward(self, reader: StreamReader, writer: StreamWriter) -> None:
        connection = asyncio.create_task(self._copy_both_ways(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _copy_both_ways(self, reader: StreamReader, writer: StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(self._host, int(self._port))
        await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    """Copies all bytes. At the end of the bytes, closes the connection to which the bytes are copied."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        # The other side has closed the connection.
        pass
    finally:
        writer.close()
