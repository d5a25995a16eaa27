"""Cancelling a block from another task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Cancellation:
    """Cancels the task that creates it, and distinguishes this cancellation from others."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError(
                "a lease must be entered inside an asyncio task, because only an asyncio task can be cancelled"
            )
        self._task = task
        self._is_requested = False
        # Python before 3.11 does not count cancellations. There, only the message of the last one identifies it.
        self._uncancel: Callable[[], int] | None = getattr(task, "uncancel", None)
        self._count_before: int = getattr(task, "cancelling", lambda: 0)()

    def cancel(self) -> None:
        """Cancels the task at its current await."""
        self._is_requested = True
        self._task.cancel(msg=str(id(self)))

    def has_caused(self, error: BaseException | None) -> bool:
        """Returns whether only this cancellation has raised the error with which the block was left.

        Must be called once, at the end of the block.
        """
        if not self._is_requested:
            return False
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if self._uncancel:
            return self._uncancel() <= self._count_before and is_cancelled
        return is_cancelled and str(id(self)) in error.args
