"""Cancelling a block from another task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Cancellation:
    """Cancels the task that makes it, and tells that from a cancellation by somebody else."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be cancelled")
        self._task = task
        self._asked = False
        # Before Python 3.11 nobody counts the requests; the message of the last one is all there is.
        self._uncancel: Callable[[], int] | None = getattr(task, "uncancel", None)
        self._before: int = getattr(task, "cancelling", lambda: 0)()

    def cancel(self) -> None:
        """Cancels it where it waits."""
        self._asked = True
        self._task.cancel(msg=str(id(self)))

    def is_ours(self, error: BaseException | None) -> bool:
        """Whether the block was left because of this cancellation, and this one alone. To be asked once, at the end."""
        if not self._asked:
            return False
        cancelled = isinstance(error, asyncio.CancelledError)
        if self._uncancel:
            return self._uncancel() <= self._before and cancelled
        return cancelled and str(id(self)) in error.args
