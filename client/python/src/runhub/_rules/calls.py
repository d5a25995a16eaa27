"""This module decides when a call is retried, and when the call's deadline ends the retries."""

from __future__ import annotations

import random
from typing import Generic

import grpc
from google.protobuf.duration_pb2 import Duration
from uuid6 import uuid7

from runhub.errors import Error, M

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 2.0

# Each delay is at most the call's time limit divided by this number. With a longer delay, a call could miss a server
# that starts again shortly before the time limit.
_LIMIT_DIVISOR = 10

# The longest `wait` of a request, in seconds. The server reduces a longer `wait` to this value.
_LONGEST_WAIT = 300.0


class Backoff:
    """Computes the delays before the retries of a call, in seconds.

    Each delay is twice the previous delay, but at most `_LONGEST_DELAY` (2 s) and at most a tenth of the time limit.
    Random jitter then shortens the delay by up to half.
    """

    def __init__(self, limit: float | None = None) -> None:
        """Starts with the shortest delay. `limit` is the time for the call and all retries in seconds, or None for no
        limit."""
        self._longest = _LONGEST_DELAY if limit is None else min(_LONGEST_DELAY, limit / _LIMIT_DIVISOR)
        self._next = min(_FIRST_DELAY, self._longest)

    def next_delay(self, retry_delay: float | None) -> float:
        """Returns the next delay in seconds, which is at least the server's `retry_delay`."""
        delay = self._next
        self._next = min(self._next * 2, self._longest)
        # Without jitter, all clients that lost the connection at the same time would also retry at the same time.
        return max(delay * random.uniform(0.5, 1.0), retry_delay or 0.0)


class Call(Generic[M]):
    """Manages the retries of one call. The call and all retries share a request_id and a deadline."""

    def __init__(self, request: M, timeout: float | None, deadline: float, now: float) -> None:
        """Starts the time limit of the call and all retries at the time `now`.

        The time limit is `timeout` in seconds. If `timeout` is None, the time limit is `deadline` plus the request's
        `wait`.
        """
        self._request = with_request_id(request)
        self._wait = min(to_seconds(getattr(request, "wait", None)), _LONGEST_WAIT)
        self._began = now
        self._is_first_call = True
        self._last_error: Error | None = None
        limit = deadline + self._wait if timeout is None else timeout
        self._until = now + limit
        self._backoff = Backoff(limit)

    def prepare_request(self, now: float) -> tuple[M, float]:
        """Returns the next request to send, and the time in seconds that remains until the deadline."""
        request = self._request if self._is_first_call else self._with_remaining_wait(now)
        self._is_first_call = False
        return request, max(0.0, self._until - now)

    def record_failure(self, error: Error, now: float) -> float:
        """Records `error` and returns the time in seconds to wait before the next retry.

        Raises the error of the call if `error` is permanent or the next retry would start after the deadline.
        """
        # If the deadline ends a retry, raise the previous error, because DEADLINE_EXCEEDED does not explain the
        # failure.
        if self._last_error and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise self._last_error
        self._last_error = error
        if not error.is_temporary:
            raise error
        pause = self._backoff.next_delay(error.retry_delay)
        if now + pause >= self._until:
            raise error
        return pause

    def _with_remaining_wait(self, now: float) -> M:
        """Returns the request with the remaining `wait`, so that the response arrives before the deadline."""
        if not self._wait:
            return self._request
        request = _copy(self._request)
        rest = max(0.0, self._wait - (now - self._began))
        getattr(request, "wait").FromNanoseconds(int(rest * 1e9))  # noqa: B009, the type Message has no such field
        return request


def with_request_id(request: M) -> M:
    """Returns a copy of the request with a new request_id if the request's field `request_id` is empty.

    If the field is set or does not exist, returns the request itself. This function never changes the caller's message,
    because a second call with the same message needs a different request_id.
    """
    if getattr(request, "request_id", None) != "":
        return request
    request = _copy(request)
    setattr(request, "request_id", str(uuid7()))  # noqa: B010, the type Message has no such field
    return request


def to_seconds(duration: object) -> float:
    """Returns the duration in seconds. Returns 0 if the duration is negative or None."""
    return max(0.0, duration.seconds + duration.nanos / 1e9) if isinstance(duration, Duration) else 0.0


def is_retried_without_deadline(error: Error) -> bool:
    """Returns whether a lease or a subscription retries after `error`.

    Leases and subscriptions also retry after DEADLINE_EXCEEDED, because DEADLINE_EXCEEDED ends only one call of the
    lease or the subscription.
    """
    return error.is_temporary or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def _copy(request: M) -> M:
    copy = type(request)()
    copy.CopyFrom(request)
    return copy
