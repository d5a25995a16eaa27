"""A subscription that resumes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import TYPE_CHECKING

from runhub._rules.log import Log
from runhub.aio.closing import Closing
from runhub.errors import Error
from runhub.v1 import GetServerInfoRequest, SubscribeEventsResponse

if TYPE_CHECKING:
    from runhub.v1.event_service_pb2_grpc import EventServiceAsyncStub
    from runhub.v1.server_service_pb2_grpc import ServerServiceAsyncStub


class AsyncSubscription:
    """What a subscription brings, without a gap or a duplicate, however often the connection breaks or the server
    restarts.

    `snapshot` comes once, first and whole; then `event` and `bookmark`; `caught_up` once. `end` with RUN_ENDED or
    RUN_DELETED is the last. It raises what does not pass: RunNotFound, PositionCompacted, or OtherLog.
    """

    def __init__(
        self, events: EventServiceAsyncStub, server: ServerServiceAsyncStub, log: Log, closing: Closing
    ) -> None:
        self._log = log
        self._updates = _updates(events, server, log, closing)

    @property
    def position(self) -> int | None:
        """The cursor, to go on with in another process; None before the first message of one without a cursor."""
        return self._log.position

    @property
    def log_id(self) -> str | None:
        """The server's log that the cursor is good for; None before it is known."""
        return self._log.log_id

    async def aclose(self) -> None:
        """Ends the stream. For the task that reads it; to end it from another, cancel that task."""
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


# No method: a subscription that nobody holds any more is collected at once, and its stream closed.
async def _updates(
    events: EventServiceAsyncStub, server: ServerServiceAsyncStub, log: Log, closing: Closing
) -> AsyncGenerator[SubscribeEventsResponse, None]:
    while True:
        try:
            info = await server.GetServerInfo(GetServerInfoRequest())
            stream = events.SubscribeEvents(log.begin(info.log_id))
            try:
                async for response in stream:
                    update = log.take(response)
                    if update is not None:
                        yield update
                    if log.ended:
                        return
            finally:
                stream.cancel()
            pause = log.broken(None)
        except Error as error:
            pause = log.broken(error)
        await closing.unless(asyncio.sleep(pause))
