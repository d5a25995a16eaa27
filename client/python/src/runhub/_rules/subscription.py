"""This module decides which messages of the server a subscription yields, and from which position a subscription
resumes."""

from __future__ import annotations

from runhub._rules.calls import Backoff, is_retried_without_deadline
from runhub.errors import Error
from runhub.v1 import EndReason, RunSnapshot, SubscribeEventsRequest, SubscribeEventsResponse


class SubscriptionState:
    """Tracks the state of a subscription across all streams of the subscription."""

    ended: bool
    """True if the subscription has received the last message, False otherwise."""

    def __init__(self, request: SubscribeEventsRequest) -> None:
        """Starts at the cursor of the request. If the request has no `log_id`, the subscription accepts any log."""
        self.ended = False
        self._request = SubscribeEventsRequest()
        self._request.CopyFrom(request)
        self._backoff = Backoff()
        # The received parts of an incomplete snapshot. If no snapshot is being received, the value is None.
        self._snapshot: RunSnapshot | None = None
        self._caught_up = False

    @property
    def position(self) -> int | None:
        """Returns the last received position. Before the first position, returns the request's cursor, which may be
        None."""
        return self._request.after_position if self._request.HasField("after_position") else None

    @property
    def log_id(self) -> str | None:
        """Returns the id of the log in which `position` is valid. Before `set_log`, returns the request's `log_id`,
        which may be None."""
        return self._request.log_id if self._request.HasField("log_id") else None

    def set_log(self, log_id: str) -> None:
        """Sets the log that the subscription follows. `log_id` is the id of the server's log at the first stream."""
        # A cursor is valid in only one log. In a different log, for example after the server was restored from a
        # backup, the cursor would skip or repeat events. Every request therefore contains the log_id, and the server
        # refuses the request if the server has a different log.
        self._request.log_id = log_id

    def next_request(self) -> SubscribeEventsRequest:
        """Returns the request for the next stream."""
        # Discard an incomplete snapshot, because the new stream sends the snapshot again from its first part.
        self._snapshot = None
        return self._request

    def receive(self, response: SubscribeEventsResponse) -> SubscribeEventsResponse | None:
        """Records a message of the server and returns the update to yield, or None if there is no update to yield."""
        self._backoff = Backoff()
        kind = response.WhichOneof("message")
        if kind is None:
            # A newer server can send a kind of message that this client does not know. Skip such a message.
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
            # DRAINING means that the server is shutting down. Only the stream ends, and the subscription opens another
            # stream.
            self.ended = response.end.reason != EndReason.END_REASON_DRAINING
            return response if self.ended else None
        return response

    def record_stream_end(self, error: Error | None) -> float:
        """Records the end of a stream and returns the time in seconds to wait before the next stream.

        If the stream ended without an error, `error` is None. Raises `error` if the error is not temporary.
        """
        if error is None:
            return self._backoff.next_delay(None)
        if not is_retried_without_deadline(error):
            raise error
        return self._backoff.next_delay(error.retry_delay)

    def _receive_snapshot(self, part: RunSnapshot) -> SubscribeEventsResponse | None:
        if self._snapshot is None:
            self._snapshot = RunSnapshot()
        # Each part contains further entries of the snapshot's lists, and MergeFrom appends lists.
        self._snapshot.MergeFrom(part)
        # If the part has no position, more parts follow, because only the last part of a snapshot has a position.
        if not part.position:
            return None
        whole = SubscribeEventsResponse(snapshot=self._snapshot)
        self._request.after_position = part.position
        self._snapshot = None
        return whole
