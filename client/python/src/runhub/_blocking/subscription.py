"""The subscription for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from threading import Event, Lock
from types import TracebackType
from typing import Any, TypeVar

import grpc

from runhub._blocking.closing import CloseSignal
from runhub._rules.subscription import SubscriptionState
from runhub.errors import Closed, Error, error_of
from runhub.v1 import GetServerInfoRequest, SubscribeEventsRequest, SubscribeEventsResponse
from runhub.v1.event_service_pb2_grpc import EventServiceStub
from runhub.v1.server_service_pb2_grpc import ServerServiceStub

C = TypeVar("C", bound=Any)


class Subscription:
    """The messages of a subscription, without a gap or a duplicate, through broken connections and restarts of the
    server.

    The subscription yields `snapshot` once, first and whole; then `event` and `bookmark`; `caught_up` once; and `end`
    with RUN_ENDED or RUN_DELETED last. It raises errors that are not temporary: RunNotFound, PositionCompacted or
    OtherLog.
    """

    def __init__(self, stubs: SubscriptionStubs, state: SubscriptionState, closing: CloseSignal) -> None:
        self._state = state
        self._current = _CurrentCall()
        self._updates = _updates(stubs, state, self._current, closing)

    @property
    def position(self) -> int | None:
        """The cursor with which another process can continue. None before the first message, unless the request has a
        cursor."""
        return self._state.position

    @property
    def log_id(self) -> str | None:
        """The server's log in which the cursor is valid. None before the first message."""
        return self._state.log_id

    def close(self) -> None:
        """Ends the subscription. Another thread may call this, which ends the loop over the subscription."""
        self._current.close()

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


class _CurrentCall:
    """The running call of a subscription, which another thread may cancel."""

    def __init__(self) -> None:
        self.closed = Event()
        self.error: Closed | None = None
        self._lock = Lock()
        self._call: grpc.RpcContext | None = None

    def begin(self, make: Callable[[], C]) -> C:
        """Makes a call. Raises FutureCancelledError if the subscription is closed."""
        with self._lock:
            # A call on a closed channel would crash the process.
            if self.closed.is_set():
                raise grpc.FutureCancelledError
            call = make()
            self._call = call
        return call

    def close(self, error: Closed | None = None) -> None:
        """Cancels the call and refuses further ones. `error` is what the subscription then raises; None raises
        nothing."""
        with self._lock:
            if not self.closed.is_set():
                self.error = error
            self.closed.set()
            if self._call:
                self._call.cancel()


class SubscriptionStubs:
    """The calls that a subscription makes."""

    def __init__(self, channel: grpc.Channel, deadline: float) -> None:
        self._server = ServerServiceStub(channel)
        self._events = EventServiceStub(channel)
        self._deadline = deadline

    def server_info(self) -> Any:
        """Starts GetServerInfo."""
        return self._server.GetServerInfo.future(GetServerInfoRequest(), timeout=self._deadline)

    def events(self, request: SubscribeEventsRequest) -> Any:
        """Starts SubscribeEvents."""
        return self._events.SubscribeEvents(request)


# A function and not a method, so that the generator holds no reference to the Subscription. A Subscription without
# references is then collected at once, which closes its stream.
def _updates(
    stubs: SubscriptionStubs, state: SubscriptionState, current: _CurrentCall, closing: CloseSignal
) -> Iterator[SubscribeEventsResponse]:
    with closing.callback(partial(current.close, Closed())):
        while not state.ended and not current.closed.is_set():
            try:
                yield from _stream(stubs, state, current)
                pause = state.broken(None)
            except grpc.FutureCancelledError:
                # Only closing the subscription or the client cancels a call.
                break
            except grpc.RpcError as failure:
                if current.closed.is_set():
                    break
                pause = state.broken(failure if isinstance(failure, Error) else error_of(failure))
            if not state.ended:
                current.closed.wait(pause)
    if current.error and not state.ended:
        raise current.error


def _stream(
    stubs: SubscriptionStubs, state: SubscriptionState, current: _CurrentCall
) -> Iterator[SubscribeEventsResponse]:
    """Yields the messages of one stream."""
    info = current.begin(stubs.server_info).result()
    request = state.begin(info.log_id)
    stream = current.begin(lambda: stubs.events(request))
    try:
        for response in stream:
            update = state.receive(response)
            if update is not None:
                yield update
            if state.ended:
                return
    finally:
        stream.cancel()
