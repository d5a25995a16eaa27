"""What a subscription shows of what the server sends."""

from __future__ import annotations

from runhub._rules.calls import Delays, may_pass
from runhub.errors import Error, OtherLog
from runhub.v1 import EndReason, RunSnapshot, SubscribeEventsRequest, SubscribeEventsResponse


class Log:
    """The log as it is followed, through as many streams as it takes."""

    ended: bool
    """Nothing follows."""

    log_id: str | None
    """The server's log that `position` is good for; None before it is known."""

    def __init__(self, request: SubscribeEventsRequest, log_id: str | None = None) -> None:
        """`log_id` is the one it was followed in before, in another process, say."""
        self.ended = False
        self.log_id = log_id or None
        self._request = SubscribeEventsRequest()
        self._request.CopyFrom(request)
        self._delays = Delays()
        # What has come of the snapshot so far, while parts of it come.
        self._snapshot: RunSnapshot | None = None
        self._caught_up = False

    @property
    def position(self) -> int | None:
        """The last position received."""
        return self._request.after_position if self._request.HasField("after_position") else None

    def begin(self, log_id: str) -> SubscribeEventsRequest:
        """What to open a stream with, now that the server has this log. It raises OtherLog."""
        # A cursor is good for one log: after a restore, say, it would skip or repeat without a word.
        if self.log_id not in (None, log_id):
            raise OtherLog
        self.log_id = log_id
        # Broken off within the snapshot it begins anew.
        self._snapshot = None
        return self._request

    def take(self, response: SubscribeEventsResponse) -> SubscribeEventsResponse | None:
        """What to show of a message."""
        self._delays = Delays()
        kind = response.WhichOneof("message")
        if kind is None:
            # A kind of message that this client does not know yet.
            return None
        if kind == "snapshot":
            return self._take_snapshot(response.snapshot)
        position: int = getattr(response, kind).position
        self._request.after_position = position
        if kind == "caught_up":
            shown, self._caught_up = not self._caught_up, True
            return response if shown else None
        if kind == "end":
            # After DRAINING its successor goes on from here.
            self.ended = response.end.reason != EndReason.END_REASON_DRAINING
            return response if self.ended else None
        return response

    def broken(self, error: Error | None) -> float:
        """How long to wait before the next stream, after this error or an end without a word. It raises what stays."""
        if error is None:
            return self._delays.next(None)
        if not may_pass(error):
            raise error
        return self._delays.next(error.retry_delay)

    def _take_snapshot(self, part: RunSnapshot) -> SubscribeEventsResponse | None:
        if self._snapshot is None:
            self._snapshot = RunSnapshot()
        # The lists continue each other, and merging appends.
        self._snapshot.MergeFrom(part)
        # Only the last part has a position.
        if not part.position:
            return None
        whole = SubscribeEventsResponse(snapshot=self._snapshot)
        self._request.after_position = part.position
        self._snapshot = None
        return whole
