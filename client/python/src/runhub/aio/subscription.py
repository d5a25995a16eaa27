"""The subscription for asyncio."""

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
    """The messages of a subscription, without a gap or a duplicate, through broken connections and restarts of the
    server.

    The subscription yields `snapshot` once, first and whole; then `event` and `bookmark`; `caught_up` once; and `end`
    with RUN_ENDED or RUN_DELETED last. It raises errors that are not temporary: RunNotFound, PositionCompacted or
    OtherLog.
    """

    def __init__(
        self,
        events: EventServiceAsyncStub,
        server: ServerServiceAsyncStub,
        state: SubscriptionState,
        closing: CloseSignal,
    ) -> None:
        self._state = state
        self._updates = _updates(events, server, state, closing)

    @property
    def position(self) -> int | None:
        """The cursor with which another process can continue. None before the first message, unless the request has a
        cursor."""
        return self._state.position

    @property
    def log_id(self) -> str | None:
        """The server's log in which the cursor is valid. None before the first message."""
        return self._state.log_id

    async def aclose(self) -> None:
        """Ends the subscription. Only the task that reads the subscription may call this. To end the subscription from
        another task, cancel the reading task."""
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


# A function and not a method, so that the generator holds no reference to the AsyncSubscription. An AsyncSubscription
# without references is then collected at once, which closes its stream.
async def _updates(
    events: EventServiceAsyncStub, server: ServerServiceAsyncStub, state: SubscriptionState, closing: CloseSignal
) -> AsyncGenerator[SubscribeEventsResponse, None]:
    while True:
        try:
            info = await server.GetServerInfo(GetServerInfoRequest())
            stream = events.SubscribeEvents(state.begin(info.log_id))
            try:
                async for response in stream:
                    update = state.receive(response)
                    if update is not None:
                        yield update
                    if state.ended:
                        return
            finally:
                stream.cancel()
            pause = state.broken(None)
        except Error as error:
            pause = state.broken(error)
        await closing.wait_for(asyncio.sleep(pause))
