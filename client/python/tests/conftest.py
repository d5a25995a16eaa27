"""What tests are given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest
from fake import FakeServer
from worlds import Asyncio, Blocking, World


class Connect(Protocol):
    """Connects to a server; the client is closed after the test."""

    def __call__(self, server: str, *, deadline: float = 30.0) -> World: ...


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture(params=[Blocking, Asyncio])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        def connect(server: str, *, deadline: float = 30.0) -> World:
            world: World = request.param(server, deadline)
            stack.push_async_callback(world.close)
            return world

        yield connect
