"""This module cancels the `async with` block of a lease from another asyncio task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Cancellation:
    """Cancels the asyncio task that created this object, and distinguishes this cancellation from other cancellations
    of the asyncio task."""

    def __init__(self, task_id: str) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError(
                f"the lease of task {task_id} was entered outside an asyncio task: use `async with` in a coroutine"
            )
        self._task = task
        self._is_requested = False
        # Python 3.10 does not count the cancellations of an asyncio task, so the method `uncancel` does not exist. The
        # message that `cancel` passes identifies the cancellation instead.
        self._uncancel: Callable[[], int] | None = getattr(task, "uncancel", None)
        self._count_before: int = getattr(task, "cancelling", lambda: 0)()

    def cancel(self) -> None:
        """Cancels the asyncio task, so that the current `await` of the asyncio task raises CancelledError."""
        self._is_requested = True
        self._task.cancel(msg=str(id(self)))

    def has_caused(self, error: BaseException | None) -> bool:
        """Returns whether this cancellation alone caused `error`, the error with which the `async with` block ended.

        The caller must call this method exactly once, at the end of the `async with` block.
        """
        if not self._is_requested:
            return False
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if self._uncancel:
            return self._uncancel() <= self._count_before and is_cancelled
        return is_cancelled and str(id(self)) in error.args
