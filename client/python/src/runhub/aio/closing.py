"""The signal that a client is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from runhub.errors import Closed

T = TypeVar("T")


class CloseSignal:
    """Tells the running calls, leases and subscriptions of a client that the client is closed."""

    def __init__(self) -> None:
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: set[asyncio.Task[Any]] = set()
        self._callbacks: set[Callable[[], object]] = set()

    @property
    def closed(self) -> bool:
        """Whether the client is closed."""
        return self._closed.done()

    def check(self) -> None:
        """Raises Closed if the client is closed."""
        if self.closed:
            raise Closed

    async def wait_for(self, work: Awaitable[T]) -> T:
        """Waits for the work and returns its result. Raises Closed as soon as the client is closed."""
        working = asyncio.ensure_future(work)
        # If this wait is cancelled just as the work fails, the error is never retrieved and asyncio would log a
        # warning.
        working.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait([working, self._closed], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Closed
            return working.result()
        finally:
            working.cancel()

    @contextmanager
    def running_call(self) -> Generator[None]:
        """Marks the current task as a running call within the block, so that `close` waits for it.

        Raises Closed if the client is closed.
        """
        self.check()
        task = asyncio.current_task()
        if task:
            self._calls.add(task)
        try:
            yield
        finally:
            self._calls.discard(task)  # type: ignore[arg-type] # discard accepts None too

    @contextmanager
    def callback(self, callback: Callable[[], object]) -> Generator[None]:
        """Within the block, calls the callback as soon as the client is closed; at once if it is closed already."""
        self._callbacks.add(callback)
        try:
            if self.closed:
                callback()
            yield
        finally:
            self._callbacks.discard(callback)

    async def close(self) -> None:
        """Gives the signal and waits until the running calls have ended.

        Must be awaited before the channel is closed. Otherwise the running calls would raise CancelledError, not
        Closed.
        """
        if not self.closed:
            self._closed.set_result(None)
        for callback in list(self._callbacks):
            callback()
        # Tasks of calls that were just made must start, so that they see the signal.
        await asyncio.sleep(0)
        if self._calls:
            await asyncio.wait(list(self._calls))
