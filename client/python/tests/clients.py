"""This module defines one interface to the blocking client and the asyncio client, so that a test can use either
client."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import runhub
from runhub.v1 import SubscribeEventsRequest, SubscribeEventsResponse


class AnySubscription(Protocol):
    """Defines the interface to the subscriptions of the blocking client and the asyncio client."""

    @property
    def position(self) -> int | None: ...

    @property
    def log_id(self) -> str | None: ...

    async def next(self) -> SubscribeEventsResponse | None:
        """Returns the next update, or None after the last update."""
        ...

    async def close(self) -> None: ...


class AnyClient(Protocol):
    """Defines the interface to the blocking client and the asyncio client."""

    async def call(self, service: str, method: str, request: Any, **options: Any) -> Any: ...

    def subscribe(self, request: SubscribeEventsRequest) -> AnySubscription: ...

    async def close(self) -> None: ...


class BlockingClient:
    """Adapts the blocking client to the interface AnyClient."""

    def __init__(self, server: str, deadline: float) -> None:
        self._client = runhub.connect(server, deadline=deadline)

    async def call(self, service: str, method: str, request: Any, **options: Any) -> Any:
        return await asyncio.to_thread(getattr(getattr(self._client, service), method), request, **options)

    def subscribe(self, request: SubscribeEventsRequest) -> AnySubscription:
        return _BlockingSubscription(self._client.subscribe(request))

    async def close(self) -> None:
        self._client.close()


class _BlockingSubscription:
    def __init__(self, subscription: runhub.Subscription) -> None:
        self._subscription = subscription

    @property
    def position(self) -> int | None:
        return self._subscription.position

    @property
    def log_id(self) -> str | None:
        return self._subscription.log_id

    async def next(self) -> SubscribeEventsResponse | None:
        return await asyncio.to_thread(next, self._subscription, None)

    async def close(self) -> None:
        self._subscription.close()


class AsyncioClient:
    """Adapts the asyncio client to the interface AnyClient."""

    def __init__(self, server: str, deadline: float) -> None:
        self._client = runhub.aio.connect(server, deadline=deadline)

    async def call(self, service: str, method: str, request: Any, **options: Any) -> Any:
        return await getattr(getattr(self._client, service), method)(request, **options)

    def subscribe(self, request: SubscribeEventsRequest) -> AnySubscription:
        return _AsyncioSubscription(self._client.subscribe(request))

    async def close(self) -> None:
        await self._client.close()


class _AsyncioSubscription:
    def __init__(self, subscription: runhub.aio.AsyncSubscription) -> None:
        self._subscription = subscription

    @property
    def position(self) -> int | None:
        return self._subscription.position

    @property
    def log_id(self) -> str | None:
        return self._subscription.log_id

    async def next(self) -> SubscribeEventsResponse | None:
        return await anext(self._subscription, None)

    async def close(self) -> None:
        await self._subscription.aclose()
