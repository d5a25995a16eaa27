"""This module implements the subscriptions of the blocking client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from threading import Event, Lock
from types import TracebackType
from typing import Any, TypeVar

import grpc

from runhub._blocking.closing import CloseSignal
from runhub._rules.subscription import SubscriptionState
from runhub.errors import Closed, Error, to_error
from runhub.v1 import GetServerInfoRequest, SubscribeEventsRequest, SubscribeEventsResponse
from runhub.v1.event_service_pb2_grpc import EventServiceStub
from runhub.v1.server_service_pb2_grpc import ServerServiceStub

C = TypeVar("C", bound=Any)


class Subscription:
    """Yields the messages of a subscription without a gap or a duplicate, even if the connection breaks or the server
    restarts.

    With FROM_SNAPSHOT, the subscription first yields one complete `snapshot`. Then the subscription yields `event` and
    `bookmark` messages, one `caught_up`, and last an `end` with RUN_ENDED or RUN_DELETED. The subscription raises any
    error that is not temporary, such as RunNotFound, PositionCompacted or LogChanged.
    """

    def __init__(self, stubs: SubscriptionStubs, state: SubscriptionState, closing: CloseSignal) -> None:
        self._state = state
        self._current = _CurrentCall()
        self._updates = _yield_updates(stubs, state, self._current, closing)

    @property
    def position(self) -> int | None:
        """Returns the cursor from which another subscription can resume.

        Before the first message, returns the cursor of the request, or None if the request has no cursor.
        """
        return self._state.position

    @property
    def log_id(self) -> str | None:
        """Returns the id of the server's log in which the cursor is valid.

        Before the first message, returns the `log_id` of the request, or None if the request has no `log_id`.
        """
        return self._state.log_id

    def close(self) -> None:
        """Ends the subscription and the loop that reads the subscription. Any thread may call this method."""
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
    """Stores the running call of a subscription, so that another thread can cancel the call."""

    def __init__(self) -> None:
        self.closed = Event()
        self.error: Closed | None = None
        self._lock = Lock()
        self._call: grpc.RpcContext | None = None

    def start_call(self, make: Callable[[], C]) -> C:
        """Starts a call, stores the call as the running call, and returns the call.

        Raises FutureCancelledError if the subscription is closed.
        """
        with self._lock:
            # If the subscription is closed, the channel may be closed too. A call on a closed channel would crash the
            # process.
            if self.closed.is_set():
                raise grpc.FutureCancelledError
            call = make()
            self._call = call
        return call

    def close(self, error: Closed | None = None) -> None:
        """Cancels the running call and refuses further calls.

        The subscription then raises `error`. If `error` is None, the subscription ends without an error.
        """
        with self._lock:
            if not self.closed.is_set():
                self.error = error
            self.closed.set()
            if self._call:
                self._call.cancel()


class SubscriptionStubs:
    """Starts the calls of a subscription."""

    def __init__(self, server: ServerServiceStub, events: EventServiceStub, deadline: float) -> None:
        self._server = server
        self._events = events
        self._deadline = deadline

    def get_server_info(self) -> Any:
        """Starts a GetServerInfo call and returns the future of the response."""
        return self._server.GetServerInfo.future(GetServerInfoRequest(), timeout=self._deadline)

    def subscribe_events(self, request: SubscribeEventsRequest) -> Any:
        """Starts a SubscribeEvents call and returns the stream of messages."""
        return self._events.SubscribeEvents(request)


# This generator is a function and not a method, so that the generator holds no reference to the Subscription. If the
# program drops its last reference to a Subscription, Python collects the Subscription and closes the stream.
def _yield_updates(
    stubs: SubscriptionStubs, state: SubscriptionState, current: _CurrentCall, closing: CloseSignal
) -> Iterator[SubscribeEventsResponse]:
    with closing.call_on_close(partial(current.close, Closed())):
        while not state.ended and not current.closed.is_set():
            try:
                yield from _read_stream(stubs, state, current)
                pause = state.record_stream_end(None)
            except grpc.FutureCancelledError:
                # A call is cancelled only if the subscription or the client is closed, so the loop must end.
                break
            except grpc.RpcError as failure:
                if current.closed.is_set():
                    break
                pause = state.record_stream_end(failure if isinstance(failure, Error) else to_error(failure))
            if not state.ended:
                current.closed.wait(pause)
    if current.error and not state.ended:
        raise current.error


def _read_stream(
    stubs: SubscriptionStubs, state: SubscriptionState, current: _CurrentCall
) -> Iterator[SubscribeEventsResponse]:
    """Opens one stream and yields the stream's updates."""
    if state.log_id is None:
        state.set_log(current.start_call(stubs.get_server_info).result().log_id)
    request = state.next_request()
    stream = current.start_call(lambda: stubs.subscribe_events(request))
    try:
        for response in stream:
            update = state.receive(response)
            if update is not None:
                yield update
            if state.ended:
                return
    finally:
        stream.cancel()
