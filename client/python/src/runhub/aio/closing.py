"""The end of a client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from runhub.errors import Closed

T = TypeVar("T")


class Closing:
    """Whether the client is closed, for those who wait meanwhile."""

    def __init__(self) -> None:
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: set[asyncio.Task[Any]] = set()
        self._callbacks: set[Callable[[], object]] = set()

    @property
    def closed(self) -> bool:
        """Whether it is."""
        return self._closed.done()

    def check(self) -> None:
        """Raises Closed if it is."""
        if self.closed:
            raise Closed

    async def unless(self, work: Awaitable[T]) -> T:
        """Waits for the work; raises Closed the moment the client is closed."""
        working = asyncio.ensure_future(work)
        # Nobody takes its error if it comes at the moment that the waiting is cancelled.
        working.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait([working, self._closed], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Closed
            return working.result()
        finally:
            working.cancel()

    @contextmanager
    def call(self) -> Generator[None]:
        """Around a call: none begins any more, and closing waits for those that did."""
        self.check()
        task = asyncio.current_task()
        if task:
            self._calls.add(task)
        try:
            yield
        finally:
            self._calls.discard(task)  # type: ignore[arg-type] # None is not in it

    @contextmanager
    def telling(self, callback: Callable[[], object]) -> Generator[None]:
        """Calls it the moment it is closed, or at once."""
        self._callbacks.add(callback)
        try:
            if self.closed:
                callback()
            yield
        finally:
            self._callbacks.discard(callback)

    async def close(self) -> None:
        """Ends the calls. To be awaited before the channel is closed, which would cancel them instead."""
        if not self.closed:
            self._closed.set_result(None)
        for callback in list(self._callbacks):
            callback()
        # Calls that were made a moment ago begin now.
        await asyncio.sleep(0)
        if self._calls:
            await asyncio.wait(list(self._calls))
