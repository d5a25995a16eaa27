"""A subscription that resumes by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from threading import Event, Lock
from types import TracebackType
from typing import Any, TypeVar

import grpc

from runhub._blocking.closing import Closing
from runhub._rules.log import Log
from runhub.errors import Closed, Error, error_of
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

    def __init__(self, server: LogServer, log: Log, closing: Closing) -> None:
        self._log = log
        self._calls = _Calls()
        self._updates = _updates(server, log, self._calls, closing)

    @property
    def position(self) -> int | None:
        """The cursor, to go on with in another process; None before the first message of one without a cursor."""
        return self._log.position

    @property
    def log_id(self) -> str | None:
        """The server's log that the cursor is good for; None before it is known."""
        return self._log.log_id

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
        self.error: Closed | None = None
        self._lock = Lock()
        self._call: grpc.RpcContext | None = None

    def begin(self, make: Callable[[], C]) -> C:
        with self._lock:
            # Then there may be no channel any more.
            if self.closed.is_set():
                raise grpc.FutureCancelledError
            self._call = call = make()
        return call

    def close(self, error: Closed | None = None) -> None:
        with self._lock:
            if not self.closed.is_set():
                self.error = error
            self.closed.set()
            if self._call:
                self._call.cancel()


class LogServer:
    """What it is asked."""

    def __init__(self, channel: grpc.Channel, deadline: float) -> None:
        self._server, self._events = ServerServiceStub(channel), EventServiceStub(channel)
        self._deadline = deadline

    def info(self) -> Any:
        return self._server.GetServerInfo.future(GetServerInfoRequest(), timeout=self._deadline)

    def events(self, request: SubscribeEventsRequest) -> Any:
        return self._events.SubscribeEvents(request)


# No method: a subscription that nobody holds any more is collected at once, and its stream closed.
def _updates(server: LogServer, log: Log, calls: _Calls, closing: Closing) -> Iterator[SubscribeEventsResponse]:
    with closing.telling(partial(calls.close, Closed())):
        while not log.ended and not calls.closed.is_set():
            try:
                yield from _stream(server, log, calls)
                pause = log.broken(None)
            except grpc.FutureCancelledError:
                # Only `close` cancels, this one's or the client's.
                break
            except grpc.RpcError as failure:
                if calls.closed.is_set():
                    break
                pause = log.broken(failure if isinstance(failure, Error) else error_of(failure))
            if not log.ended:
                calls.closed.wait(pause)
    if calls.error and not log.ended:
        raise calls.error


def _stream(server: LogServer, log: Log, calls: _Calls) -> Iterator[SubscribeEventsResponse]:
    """What one stream brings."""
    info = calls.begin(server.info).result()
    request = log.begin(info.log_id)
    stream = calls.begin(lambda: server.events(request))
    try:
        for response in stream:
            update = log.take(response)
            if update is not None:
                yield update
            if log.ended:
                return
    finally:
        stream.cancel()
