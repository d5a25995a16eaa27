"""When to send heartbeats for a lease, and when the lease is lost."""

from __future__ import annotations

from collections import deque

import grpc
from google.protobuf.struct_pb2 import Value

from runhub._rules.calls import Backoff, is_temporary, seconds
from runhub.errors import Error, LeaseLost
from runhub.v1 import Beat, Claim, HeartbeatRequest, HeartbeatResponse, LeaseState

# With three heartbeats per lease duration, two may be late without losing the lease.
_HEARTBEATS_PER_LEASE = 3

# The longest time between two heartbeats. The holder learns of a request to stop with the next heartbeat, and the usual
# grace of a cancellation is 30 s.
_LONGEST_INTERVAL = 10.0

# The shortest lease that a server grants. It limits the rate of heartbeats if a claim has no lease duration.
_SHORTEST_LEASE = 1.0


class HeartbeatSchedule:
    """The heartbeats for one claim."""

    state: LeaseState
    """The state in the last answered heartbeat; EXTENDED before the first answer."""

    def __init__(self, claim: Claim, now: float) -> None:
        self.state = LeaseState.LEASE_STATE_EXTENDED
        self._token = claim.lease_token
        self._lease = max(seconds(claim.lease_duration), _SHORTEST_LEASE)
        self._interval = min(self._lease / _HEARTBEATS_PER_LEASE, _LONGEST_INTERVAL)
        self._sent = now
        # When the last answered heartbeat was sent. The server extends the lease from a later time, so the lease is
        # valid for at least its duration from here, whatever the clocks say.
        self._extended_from = now
        self._last_error: Error | None = None
        self._backoff = Backoff(self._lease)
        # The latest progress that was set and not yet sent. A deque, because another thread may set it.
        self._next_progress: deque[Value] = deque(maxlen=1)
        self._progress: Value | None = None

    def progress(self, progress: Value) -> None:
        """Sets the progress that the next heartbeat carries."""
        self._next_progress.append(progress)

    def next_try(self, now: float) -> tuple[HeartbeatRequest, float]:
        """Returns the request to send, and how many seconds to wait for its answer.

        Raises LeaseLost if no heartbeat was answered for a whole lease duration.
        """
        left = self._extended_from + self._lease - now
        if left <= 0:
            raise LeaseLost("unanswered") from self._last_error
        if self._next_progress:
            self._progress = self._next_progress.pop()
        self._sent = now
        beat = Beat(lease_token=self._token, progress=self._progress)
        # A try that hangs, for example on a dead connection, must leave time for another one.
        return HeartbeatRequest(beats=[beat]), min(self._lease / _HEARTBEATS_PER_LEASE, left)

    def answered(self, response: HeartbeatResponse, now: float) -> float:
        """Records an answer and returns how many seconds to wait before the next heartbeat.

        Raises LeaseLost if the server says that the lease is lost.
        """
        if not response.results:
            return self.failed(Error(grpc.StatusCode.UNAVAILABLE, "the answer has no result for the heartbeat"), now)
        state = response.results[0].state
        if state == LeaseState.LEASE_STATE_LOST:
            raise LeaseLost("taken")
        self.state = state
        self._extended_from = self._sent
        self._progress = None
        self._backoff = Backoff(self._lease)
        return max(0.0, self._extended_from + self._interval - now)

    def failed(self, error: Error, now: float) -> float:
        """Records a failed try and returns how many seconds to wait before the next one.

        Raises LeaseLost if the server would refuse the heartbeat again.
        """
        if not is_temporary(error):
            raise LeaseLost("refused") from error
        self._last_error = error
        left = max(0.0, self._extended_from + self._lease - now)
        return min(self._backoff.next(error.retry_delay), left)
