"""The end of a client."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event

from runhub.errors import Closed


class Closing:
    """Whether the client is closed, for those who wait meanwhile."""

    def __init__(self) -> None:
        self._closed = Event()
        # Without a lock: a subscription that is collected leaves it, and that may be at any time.
        self._callbacks: set[Callable[[], object]] = set()

    @property
    def closed(self) -> bool:
        """Whether it is."""
        return self._closed.is_set()

    def check(self) -> None:
        """Raises Closed if it is."""
        if self.closed:
            raise Closed

    def pause(self, seconds: float) -> None:
        """Sleeps for so long; raises Closed the moment it is."""
        self._closed.wait(seconds)
        self.check()

    @contextmanager
    def telling(self, callback: Callable[[], object]) -> Generator[None]:
        """Calls it the moment it is closed, or at once; perhaps twice."""
        self._callbacks.add(callback)
        try:
            if self.closed:
                callback()
            yield
        finally:
            self._callbacks.discard(callback)

    def close(self) -> None:
        """To be called before the channel is closed: who is told makes no call on it any more."""
        self._closed.set()
        for callback in list(self._callbacks):
            callback()
