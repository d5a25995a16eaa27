"""The signal that a client is closed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event

from runhub.errors import Closed


class CloseSignal:
    """Tells the running calls, leases and subscriptions of a client that the client is closed."""

    def __init__(self) -> None:
        self._closed = Event()
        # Not protected by a lock: the garbage collector may end a subscription, and thereby remove its callback, at any
        # time, also in a thread that would hold the lock.
        self._callbacks: set[Callable[[], object]] = set()

    @property
    def closed(self) -> bool:
        """Whether the client is closed."""
        return self._closed.is_set()

    def check(self) -> None:
        """Raises Closed if the client is closed."""
        if self.closed:
            raise Closed

    def sleep(self, seconds: float) -> None:
        """Sleeps for this time. Raises Closed as soon as the client is closed."""
        self._closed.wait(seconds)
        self.check()

    @contextmanager
    def callback(self, callback: Callable[[], object]) -> Generator[None]:
        """Within the block, calls the callback as soon as the client is closed; at once if it is closed already.

        The callback may be called twice.
        """
        self._callbacks.add(callback)
        try:
            if self.closed:
                callback()
            yield
        finally:
            self._callbacks.discard(callback)

    def close(self) -> None:
        """Gives the signal. Must be called before the channel is closed, because no call may be made on it
        afterwards."""
        self._closed.set()
        for callback in list(self._callbacks):
            callback()
