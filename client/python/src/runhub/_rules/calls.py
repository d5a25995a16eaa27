"""A call, for all its tries."""

from __future__ import annotations

import random
from typing import Generic

import grpc
from google.protobuf.duration_pb2 import Duration
from uuid6 import uuid7

from runhub.errors import Error, M

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 2.0

# So many delays fit into the time there is: a server that is back late in it is still found.
_LEAST_TRIES = 10


# The server cuts a longer one to this.
_LONGEST_WAIT = 300.0


class Delays:
    """How long to wait before each further try, in seconds."""

    def __init__(self, limit: float | None = None) -> None:
        self._longest = _LONGEST_DELAY if limit is None else min(_LONGEST_DELAY, limit / _LEAST_TRIES)
        self._next = min(_FIRST_DELAY, self._longest)

    def next(self, told: float | None) -> float:
        """The next delay; never less than told."""
        delay, self._next = self._next, min(self._next * 2, self._longest)
        # Jitter, so that those who lost the same server don't come back as one.
        return max(delay * random.uniform(0.5, 1.0), told or 0.0)


class Call(Generic[M]):
    """One call: its tries are one to the server, and end in time."""

    def __init__(self, request: M, timeout: float | None, deadline: float, now: float) -> None:
        """`timeout` is the caller's, for all of it; without one it has the `deadline`, and the request's wait on
        top."""
        self._request = with_request_id(request)
        self._wait = min(seconds(getattr(request, "wait", None)), _LONGEST_WAIT)
        self._began = now
        self._tried = False
        self._met: Error | None = None
        limit = deadline + self._wait if timeout is None else timeout
        self._until = now + limit
        self._delays = Delays(limit)

    def next_try(self, now: float) -> tuple[M, float]:
        """What to send, and how many seconds there are for it."""
        is_first, self._tried = not self._tried, True
        return self._request if is_first else self._for_the_rest(now), max(0.0, self._until - now)

    def failed(self, error: Error, now: float) -> float:
        """How long to wait before the next try. It raises what the call ends with."""
        # The deadline says nothing of what is wrong: an earlier try that came to its end does.
        if self._met and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise self._met
        self._met = error
        if not error.is_passing:
            raise error
        pause = self._delays.next(error.retry_delay)
        if now + pause >= self._until:
            raise error
        return pause

    def _for_the_rest(self, now: float) -> M:
        """The request, made again: it waits for the rest of its time, so that its answer comes in time."""
        if not self._wait:
            return self._request
        request = _copy(self._request)
        rest = max(0.0, self._wait - (now - self._began))
        getattr(request, "wait").FromNanoseconds(int(rest * 1e9))  # noqa: B009, no type has it
        return request


def with_request_id(request: M) -> M:
    """The request with a request_id, if it takes one and has none. The caller's stays as it is: used again, it is
    another call."""
    if getattr(request, "request_id", None) != "":
        return request
    request = _copy(request)
    setattr(request, "request_id", str(uuid7()))  # noqa: B010, no type has it
    return request


def seconds(duration: object) -> float:
    """None and what is negative are 0."""
    return max(0.0, duration.seconds + duration.nanos / 1e9) if isinstance(duration, Duration) else 0.0


def may_pass(error: Error) -> bool:
    """For those who go on without a deadline: what was not answered in time is asked again as well."""
    return error.is_passing or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def _copy(request: M) -> M:
    copy = type(request)()
    copy.CopyFrom(request)
    return copy
