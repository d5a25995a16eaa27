"""This module implements the subscriptions of the asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import TYPE_CHECKING

from runhub._rules.subscription import SubscriptionState
from runhub.aio.closing import CloseSignal
from runhub.errors import Error
from runhub.v1 import GetServerInfoRequest, SubscribeEventsResponse

if TYPE_CHECKING:
    from runhub.v1.event_service_pb2_grpc import EventServiceAsyncStub
    from runhub.v1.server_service_pb2_grpc import ServerServiceAsyncStub


class AsyncSubscription:
    """Yields the messages of a subscription without a gap or a duplicate, even if the connection breaks or the server
    restarts.

    With FROM_SNAPSHOT, the subscription first yields one complete `snapshot`. Then the subscription yields `event` and
    `bookmark` messages, one `caught_up`, and last an `end` with RUN_ENDED or RUN_DELETED. The subscription raises any
    error that is not temporary, such as RunNotFound, PositionCompacted or LogChanged.
    """

    def __init__(
        self,
        events: EventServiceAsyncStub,
        server: ServerServiceAsyncStub,
        state: SubscriptionState,
        closing: CloseSignal,
    ) -> None:
        self._state = state
        self._updates = _yield_updates(events, server, state, closing)

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

    async def aclose(self) -> None:
        """Ends the subscription. Only the asyncio task that reads the subscription may call this method. To end the
        subscription from another asyncio task, cancel the reading asyncio task."""
        await self._updates.aclose()

    def __aiter__(self) -> AsyncSubscription:
        return self

    async def __anext__(self) -> SubscribeEventsResponse:
        return await anext(self._updates)

    async def __aenter__(self) -> AsyncSubscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


# This generator is a function and not a method, so that the generator holds no reference to the AsyncSubscription. If
# the program drops its last reference to an AsyncSubscription, Python collects the AsyncSubscription and closes the
# stream.
async def _yield_updates(
    events: EventServiceAsyncStub, server: ServerServiceAsyncStub, state: SubscriptionState, closing: CloseSignal
) -> AsyncGenerator[SubscribeEventsResponse, None]:
    while True:
        try:
            if state.log_id is None:
                state.set_log((await server.GetServerInfo(GetServerInfoRequest())).log_id)
            stream = events.SubscribeEvents(state.next_request())
            try:
                async for response in stream:
                    update = state.receive(response)
                    if update is not None:
                        yield update
                    if state.ended:
                        return
            finally:
                stream.cancel()
            pause = state.record_stream_end(None)
        except Error as error:
            pause = state.record_stream_end(error)
        await closing.wait_for(asyncio.sleep(pause))
