"""The retries and the deadline of a call."""

from __future__ import annotations

import random
from typing import Generic

import grpc
from google.protobuf.duration_pb2 import Duration
from uuid6 import uuid7

from runhub.errors import Error, M

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 2.0

# A delay is at most a tenth of the available time, so that a server that returns late is still found in time.
_LEAST_TRIES = 10

# The server reduces a longer wait to this.
_LONGEST_WAIT = 300.0


class Backoff:
    """The delays before each further try, in seconds."""

    def __init__(self, limit: float | None = None) -> None:
        """`limit` is the time for all tries; None means that it is unlimited."""
        self._longest = _LONGEST_DELAY if limit is None else min(_LONGEST_DELAY, limit / _LEAST_TRIES)
        self._next = min(_FIRST_DELAY, self._longest)

    def next(self, retry_delay: float | None) -> float:
        """Returns the next delay, which is at least the server's `retry_delay`."""
        delay = self._next
        self._next = min(self._next * 2, self._longest)
        # Jitter spreads the calls of clients that lost their server at the same time.
        return max(delay * random.uniform(0.5, 1.0), retry_delay or 0.0)


class Call(Generic[M]):
    """One call with all its tries, which share a request_id and a deadline."""

    def __init__(self, request: M, timeout: float | None, deadline: float, now: float) -> None:
        """`timeout` is the caller's limit for all tries. If it is None, the limit is `deadline` plus the request's
        wait."""
        self._request = with_request_id(request)
        self._wait = min(seconds(getattr(request, "wait", None)), _LONGEST_WAIT)
        self._began = now
        self._is_first_try = True
        self._last_error: Error | None = None
        limit = deadline + self._wait if timeout is None else timeout
        self._until = now + limit
        self._backoff = Backoff(limit)

    def next_try(self, now: float) -> tuple[M, float]:
        """Returns the request to send, and how many seconds are left for it."""
        request = self._request if self._is_first_try else self._with_remaining_wait(now)
        self._is_first_try = False
        return request, max(0.0, self._until - now)

    def failed(self, error: Error, now: float) -> float:
        """Records a failed try and returns how many seconds to wait before the next one.

        Raises the call's error if there is no further try.
        """
        # DEADLINE_EXCEEDED does not tell the cause. The error of an earlier try does.
        if self._last_error and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise self._last_error
        self._last_error = error
        if not error.is_passing:
            raise error
        pause = self._backoff.next(error.retry_delay)
        if now + pause >= self._until:
            raise error
        return pause

    def _with_remaining_wait(self, now: float) -> M:
        """Returns the request with the rest of its wait, so that the answer arrives before the deadline."""
        if not self._wait:
            return self._request
        request = _copy(self._request)
        rest = max(0.0, self._wait - (now - self._began))
        getattr(request, "wait").FromNanoseconds(int(rest * 1e9))  # noqa: B009, the type Message has no such field
        return request


def with_request_id(request: M) -> M:
    """Returns the request with a request_id, if the RPC takes one and the caller set none.

    The caller's message is not changed: if the caller sends it again, that is another call.
    """
    if getattr(request, "request_id", None) != "":
        return request
    request = _copy(request)
    setattr(request, "request_id", str(uuid7()))  # noqa: B010, the type Message has no such field
    return request


def seconds(duration: object) -> float:
    """Returns the duration in seconds. None and negative durations are 0."""
    return max(0.0, duration.seconds + duration.nanos / 1e9) if isinstance(duration, Duration) else 0.0


def is_temporary(error: Error) -> bool:
    """Returns whether a heartbeat or a subscription goes on after this error.

    Unlike a call, these have no deadline of their own, so they also go on after DEADLINE_EXCEEDED.
    """
    return error.is_passing or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def _copy(request: M) -> M:
    copy = type(request)()
    copy.CopyFrom(request)
    return copy
