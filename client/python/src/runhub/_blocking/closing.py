"""This module defines the signal that ends the running calls, leases and subscriptions of a closed client."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event

from runhub.errors import Closed


class CloseSignal:
    """Notifies the running calls, leases and subscriptions of a client when the client is closed."""

    def __init__(self) -> None:
        self._closed = Event()
        # The set of callbacks has no lock, because the garbage collector can end a subscription and remove the
        # subscription's callback in any thread. If that thread already held the lock, the thread would deadlock.
        self._callbacks: set[Callable[[], object]] = set()

    @property
    def is_closed(self) -> bool:
        """Returns whether the client is closed."""
        return self._closed.is_set()

    def raise_if_closed(self) -> None:
        """Raises Closed if the client is closed."""
        if self.is_closed:
            raise Closed

    def sleep(self, seconds: float) -> None:
        """Sleeps for `seconds` seconds. Raises Closed as soon as the client is closed."""
        self._closed.wait(seconds)
        self.raise_if_closed()

    @contextmanager
    def call_on_close(self, callback: Callable[[], object]) -> Generator[None]:
        """Calls `callback` if the client is closed while the `with` block runs.

        If the client is already closed, calls `callback` before the `with` block. If the client is closed while the
        `with` block is being entered, `callback` may be called twice.
        """
        self._callbacks.add(callback)
        try:
            if self.is_closed:
                callback()
            yield
        finally:
            self._callbacks.discard(callback)

    def close(self) -> None:
        """Marks the client as closed and calls all callbacks.

        The caller must call this method before it closes the channels, because no call may be made on a closed channel.
        """
        self._closed.set()
        for callback in list(self._callbacks):
            callback()
