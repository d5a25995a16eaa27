"""Which of the server's messages a subscription yields, and where it resumes."""

from __future__ import annotations

from runhub._rules.calls import Backoff, is_temporary
from runhub.errors import Error, OtherLog
from runhub.v1 import EndReason, RunSnapshot, SubscribeEventsRequest, SubscribeEventsResponse


class SubscriptionState:
    """The state of a subscription, across all its streams."""

    ended: bool
    """Whether the subscription has received its last message."""

    log_id: str | None
    """The server's log in which `position` is valid. None before the first stream."""

    def __init__(self, request: SubscribeEventsRequest, log_id: str | None = None) -> None:
        """`log_id` is the log that an earlier subscription followed; None accepts any log."""
        self.ended = False
        self.log_id = log_id or None
        self._request = SubscribeEventsRequest()
        self._request.CopyFrom(request)
        self._backoff = Backoff()
        # The parts of the snapshot received so far; None if no snapshot is being received.
        self._snapshot: RunSnapshot | None = None
        self._caught_up = False

    @property
    def position(self) -> int | None:
        """The last position received, or the request's cursor. None if there is neither."""
        return self._request.after_position if self._request.HasField("after_position") else None

    def begin(self, log_id: str) -> SubscribeEventsRequest:
        """Returns the request for the next stream. `log_id` is the log that the server has now.

        Raises OtherLog if the subscription follows another log.
        """
        # A cursor is valid in one log only. In another one, for example after a restore, it would skip or repeat
        # events.
        if self.log_id not in (None, log_id):
            raise OtherLog
        self.log_id = log_id
        # If the last stream broke within the snapshot, the server sends the snapshot again from its first part.
        self._snapshot = None
        return self._request

    def receive(self, response: SubscribeEventsResponse) -> SubscribeEventsResponse | None:
        """Records a message of the server and returns what the subscription yields. None if it yields nothing."""
        self._backoff = Backoff()
        kind = response.WhichOneof("message")
        if kind is None:
            # A newer server has sent a kind of message that this client does not know.
            return None
        if kind == "snapshot":
            return self._receive_snapshot(response.snapshot)
        position: int = getattr(response, kind).position
        self._request.after_position = position
        if kind == "caught_up":
            is_first = not self._caught_up
            self._caught_up = True
            return response if is_first else None
        if kind == "end":
            # After DRAINING, the subscription resumes at the next server.
            self.ended = response.end.reason != EndReason.END_REASON_DRAINING
            return response if self.ended else None
        return response

    def broken(self, error: Error | None) -> float:
        """Returns how many seconds to wait before the next stream. `error` is None if the stream ended without an
        error.

        Raises the error if it is not temporary.
        """
        if error is None:
            return self._backoff.next(None)
        if not is_temporary(error):
            raise error
        return self._backoff.next(error.retry_delay)

    def _receive_snapshot(self, part: RunSnapshot) -> SubscribeEventsResponse | None:
        if self._snapshot is None:
            self._snapshot = RunSnapshot()
        # Each part continues the lists of the part before, and MergeFrom appends lists.
        self._snapshot.MergeFrom(part)
        # Only the last part has a position.
        if not part.position:
            return None
        whole = SubscribeEventsResponse(snapshot=self._snapshot)
        self._request.after_position = part.position
        self._snapshot = None
        return whole
