"""This module defines the signal that ends the running calls, leases and subscriptions of a closed client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from runhub.errors import Closed

T = TypeVar("T")


class CloseSignal:
    """Notifies the running calls, leases and subscriptions of a client when the client is closed."""

    def __init__(self) -> None:
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: set[asyncio.Task[Any]] = set()
        self._callbacks: set[Callable[[], object]] = set()

    @property
    def is_closed(self) -> bool:
        """Returns whether the client is closed."""
        return self._closed.done()

    def raise_if_closed(self) -> None:
        """Raises Closed if the client is closed."""
        if self.is_closed:
            raise Closed

    async def wait_for(self, work: Awaitable[T]) -> T:
        """Waits for `work` and returns the result of `work`. If the client is closed first, cancels `work` and raises
        Closed."""
        working = asyncio.ensure_future(work)
        # If the caller is cancelled while `work` fails, no other code retrieves the error of `work`, and asyncio would
        # log a warning. This callback retrieves the error.
        working.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait([working, self._closed], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Closed
            return working.result()
        finally:
            working.cancel()

    @contextmanager
    def mark_running_call(self) -> Generator[None]:
        """Marks the current asyncio task as a running call while the `with` block runs, so that `close` waits for the
        call.

        Raises Closed if the client is closed.
        """
        self.raise_if_closed()
        task = asyncio.current_task()
        if task:
            self._calls.add(task)
        try:
            yield
        finally:
            self._calls.discard(task)  # type: ignore[arg-type] # discard accepts None too

    @contextmanager
    def call_on_close(self, callback: Callable[[], object]) -> Generator[None]:
        """Calls `callback` if the client is closed while the `with` block runs.

        If the client is already closed, calls `callback` before the `with` block.
        """
        self._callbacks.add(callback)
        try:
            if self.is_closed:
                callback()
            yield
        finally:
            self._callbacks.discard(callback)

    async def close(self) -> None:
        """Marks the client as closed, calls all callbacks, and waits until the running calls have ended.

        The caller must await this method before it closes the channels. Otherwise the running calls would raise
        CancelledError instead of Closed.
        """
        if not self.is_closed:
            self._closed.set_result(None)
        for callback in list(self._callbacks):
            callback()
        # Let the asyncio tasks of new calls start. Until an asyncio task has started, `_calls` does not contain the
        # asyncio task, so `close` would not wait for the call.
        await asyncio.sleep(0)
        if self._calls:
            await asyncio.wait(list(self._calls))
