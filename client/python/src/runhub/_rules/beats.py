"""When a lease is beaten for, and when it is lost."""

from __future__ import annotations

from collections import deque

import grpc
from google.protobuf.struct_pb2 import Value

from runhub._rules.calls import Delays, may_pass, seconds
from runhub.errors import Error, LeaseLost
from runhub.v1 import Beat, Claim, HeartbeatRequest, HeartbeatResponse, LeaseState

# A lease is beaten for so often while it lasts: two beats may come late.
_BEATS_PER_LEASE = 3

# However long the lease, the holder hears within this that it is asked to stop: a cancel's usual grace is 30 s.
_LONGEST_INTERVAL = 10.0

# No server gives a shorter lease. It bounds how often is beaten for a claim that does not say.
_SHORTEST_LEASE = 1.0


class Beats:
    """The beats for one claim."""

    state: LeaseState
    """By the last answered beat; EXTENDED before the first."""

    def __init__(self, claim: Claim, now: float) -> None:
        self.state = LeaseState.LEASE_STATE_EXTENDED
        self._token = claim.lease_token
        self._lease = max(seconds(claim.lease_duration), _SHORTEST_LEASE)
        self._sent = now
        # When the last beat that was answered was sent. The server extends from later than that, so the lease is ours
        # for at least its duration from here, whatever the clocks say.
        self._answered = now
        self._failure: Error | None = None
        self._delays = Delays(self._lease)
        # What was set and not sent yet: the latest wins. Other threads put it there.
        self._set: deque[Value] = deque(maxlen=1)
        self._progress: Value | None = None

    def progress(self, progress: Value) -> None:
        """What the next beat says of how far the work is."""
        self._set.append(progress)

    def next_try(self, now: float) -> tuple[HeartbeatRequest, float]:
        """What to send, and how many seconds to wait for its answer. It raises LeaseLost when there are none left."""
        left = self._answered + self._lease - now
        if left <= 0:
            raise LeaseLost("unanswered") from self._failure
        if self._set:
            self._progress = self._set.pop()
        self._sent = now
        beat = Beat(lease_token=self._token, progress=self._progress)
        # A try that hangs, on a connection that is dead, say, must not use up the lease.
        return HeartbeatRequest(beats=[beat]), min(self._lease / _BEATS_PER_LEASE, left)

    def answered(self, response: HeartbeatResponse, now: float) -> float:
        """How long to wait before the next beat. It raises LeaseLost."""
        if not response.results:
            return self.failed(Error(grpc.StatusCode.UNAVAILABLE, "an answer to no beat"), now)
        state = response.results[0].state
        if state == LeaseState.LEASE_STATE_LOST:
            raise LeaseLost("taken")
        self.state = state
        self._answered = self._sent
        self._progress = None
        self._delays = Delays(self._lease)
        return max(0.0, self._answered + min(self._lease / _BEATS_PER_LEASE, _LONGEST_INTERVAL) - now)

    def failed(self, error: Error, now: float) -> float:
        """How long to wait before the next try. It raises LeaseLost."""
        if not may_pass(error):
            raise LeaseLost("refused") from error
        self._failure = error
        return min(self._delays.next(error.retry_delay), max(0.0, self._answered + self._lease - now))
