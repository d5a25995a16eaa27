"""This module decides when to send heartbeats for a lease, and when the lease is lost."""

from __future__ import annotations

from collections import deque

import grpc
from google.protobuf.struct_pb2 import Value

from runhub._rules.calls import Backoff, is_retried_without_deadline, to_seconds
from runhub.errors import Error, LeaseLost
from runhub.v1 import Beat, Claim, HeartbeatRequest, HeartbeatResponse, LeaseState

# The number of heartbeats per lease duration. With three heartbeats, two heartbeats may be late before the lease
# expires.
_HEARTBEATS_PER_LEASE = 3

# The longest time between two heartbeats, in seconds. The response to a heartbeat tells the agent that the run is being
# cancelled, so this time must be shorter than the default grace period of a cancellation (30 s).
_LONGEST_INTERVAL = 10.0

# The shortest lease duration that a server grants, in seconds. If a claim has no lease duration, this value limits the
# rate of the heartbeats.
_SHORTEST_LEASE = 1.0


class HeartbeatSchedule:
    """Schedules the heartbeats for one claim."""

    state: LeaseState
    """The state from the last response to a heartbeat. Before the first response, the state is EXTENDED."""

    task_id: str
    """The id of the claimed task. If the claim has no task, the id is empty."""

    def __init__(self, claim: Claim, now: float) -> None:
        self.state = LeaseState.LEASE_STATE_EXTENDED
        self.task_id = claim.task.id
        self._token = claim.lease_token
        self._lease = max(to_seconds(claim.lease_duration), _SHORTEST_LEASE)
        self._interval = min(self._lease / _HEARTBEATS_PER_LEASE, _LONGEST_INTERVAL)
        self._sent = now
        # The time at which the last answered heartbeat was sent. The server extends the lease from a later time, so the
        # lease is valid for at least its duration after this time, even if the server's clock differs.
        self._extended_from = now
        self._last_error: Error | None = None
        self._backoff = Backoff(self._lease)
        # The latest progress that the client has not sent yet. If the client has sent all progress, the deque is empty.
        # The value is a deque, because another thread may set the progress.
        self._next_progress: deque[Value] = deque(maxlen=1)
        self._progress: Value | None = None

    def set_progress(self, progress: Value) -> None:
        """Sets the progress that the next heartbeat sends."""
        self._next_progress.append(progress)

    def prepare_heartbeat(self, now: float) -> tuple[HeartbeatRequest, float]:
        """Returns the next heartbeat request, and the time in seconds to wait for the response.

        Raises LeaseLost if the server has answered no heartbeat for a whole lease duration.
        """
        left = self._extended_from + self._lease - now
        if left <= 0:
            raise LeaseLost("unanswered", self.task_id) from self._last_error
        if self._next_progress:
            self._progress = self._next_progress.pop()
        self._sent = now
        beat = Beat(lease_token=self._token, progress=self._progress)
        # If a heartbeat hangs, for example on a dead connection, there must be time to send another heartbeat before
        # the lease is lost.
        return HeartbeatRequest(beats=[beat]), min(self._lease / _HEARTBEATS_PER_LEASE, left)

    def record_answer(self, response: HeartbeatResponse, now: float) -> float:
        """Records the response to a heartbeat and returns the time in seconds to wait before the next heartbeat.

        Raises LeaseLost if the response has the state LOST.
        """
        if not response.results:
            text = f"the server answered the heartbeat for task {self.task_id} without a result: report the bug"
            return self.record_failure(Error(grpc.StatusCode.UNAVAILABLE, text), now)
        state = response.results[0].state
        if state == LeaseState.LEASE_STATE_LOST:
            raise LeaseLost("taken", self.task_id)
        self.state = state
        self._extended_from = self._sent
        self._progress = None
        self._backoff = Backoff(self._lease)
        return max(0.0, self._extended_from + self._interval - now)

    def record_failure(self, error: Error, now: float) -> float:
        """Records the error of a heartbeat and returns the time in seconds to wait before the next heartbeat.

        Raises LeaseLost if `error` is not temporary, because the server would refuse the heartbeat again.
        """
        if not is_retried_without_deadline(error):
            raise LeaseLost("refused", self.task_id) from error
        self._last_error = error
        left = max(0.0, self._extended_from + self._lease - now)
        return min(self._backoff.next_delay(error.retry_delay), left)
