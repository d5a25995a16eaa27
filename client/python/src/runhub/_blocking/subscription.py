"""A subscription that resumes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Lock
from types import TracebackType
from typing import Any, TypeVar

import grpc

from runhub._rules.log import Log
from runhub.errors import Error, error_of
from runhub.v1 import GetServerInfoRequest, SubscribeEventsRequest, SubscribeEventsResponse
from runhub.v1.event_service_pb2_grpc import EventServiceStub
from runhub.v1.server_service_pb2_grpc import ServerServiceStub

C = TypeVar("C", bound=Any)


class Subscription:
    """What a subscription brings, without a gap or a duplicate, however often the connection breaks or the server
    restarts.

    `snapshot` comes once, first and whole; then `event` and `bookmark`; `caught_up` once. `end` with RUN_ENDED or
    RUN_DELETED is the last. It raises what does not pass: RunNotFound, PositionCompacted, or OtherLog.
    """

    def __init__(self, channel: grpc.Channel, request: SubscribeEventsRequest, deadline: float) -> None:
        self._log = Log(request)
        self._calls = _Calls()
        self._updates = _updates(channel, self._log, self._calls, deadline)

    @property
    def position(self) -> int | None:
        """The cursor, to go on with in another process; None before the first message of one without a cursor."""
        return self._log.position

    def close(self) -> None:
        """Ends the stream. Also from another thread: the loop over it ends then."""
        self._calls.close()

    def __iter__(self) -> Iterator[SubscribeEventsResponse]:
        return self

    def __next__(self) -> SubscribeEventsResponse:
        return next(self._updates)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Calls:
    """The call that is under way, which another thread may end."""

    def __init__(self) -> None:
        self.closed = Event()
        self._lock = Lock()
        self._call: grpc.RpcContext | None = None

    def begin(self, call: C) -> C:
        with self._lock:
            self._call = call
            if self.closed.is_set():
                call.cancel()
        return call

    def close(self) -> None:
        with self._lock:
            self.closed.set()
            if self._call:
                self._call.cancel()


# No method: a subscription that nobody holds any more is collected at once, and its stream closed.
def _updates(channel: grpc.Channel, log: Log, calls: _Calls, deadline: float) -> Iterator[SubscribeEventsResponse]:
    while not log.ended and not calls.closed.is_set():
        try:
            yield from _stream(channel, log, calls, deadline)
            pause = log.broken(None)
        except grpc.FutureCancelledError:
            # Only `close` cancels.
            return
        except grpc.RpcError as failure:
            if calls.closed.is_set():
                return
            pause = log.broken(failure if isinstance(failure, Error) else error_of(failure))
        if not log.ended:
            calls.closed.wait(pause)


def _stream(channel: grpc.Channel, log: Log, calls: _Calls, deadline: float) -> Iterator[SubscribeEventsResponse]:
    """What one stream brings."""
    server, events = ServerServiceStub(channel), EventServiceStub(channel)
    info = calls.begin(server.GetServerInfo.future(GetServerInfoRequest(), timeout=deadline)).result()
    stream = calls.begin(events.SubscribeEvents(log.begin(info.log_id)))
    try:
        for response in stream:
            update = log.take(response)
            if update is not None:
                yield update
            if log.ended:
                return
    finally:
        stream.cancel()
