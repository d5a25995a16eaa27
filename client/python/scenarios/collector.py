"""The messages that a scenario's subscription has received."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf.json_format import MessageToDict
from matching import StepFailed, check, matches

import runhub


class Collector:
    """Reads a subscription in the background and keeps its messages."""

    def __init__(self) -> None:
        self._updates: list[dict[str, Any]] = []
        self._error: runhub.Error | None = None
        self._has_grown = asyncio.Condition()

    async def collect(self, subscription: runhub.aio.AsyncSubscription) -> None:
        """Reads the subscription until its end."""
        try:
            async with subscription:
                async for update in subscription:
                    await self._add(MessageToDict(update, preserving_proto_field_name=True))
        except runhub.Error as error:
            self._error = error
            await self._notify()

    async def event(self, expected: dict[str, Any]) -> dict[str, Any]:
        """Waits for the first event that matches and returns it. Raises StepFailed if the subscription ends before."""
        return await self._first(lambda update: matches(expected, update.get("event")), "event")

    async def end(self, reason: str, kinds: list[str]) -> dict[str, Any]:
        """Waits for the end and returns it. Raises StepFailed if the reason or the events are not as expected."""
        end = await self._first(lambda update: "end" in update, "end")
        check(reason, end["reason"])
        events = [update["event"] for update in self._updates if "event" in update]
        check(kinds, [event["kind"] for event in events])
        check(len(events), len({event["position"] for event in events}))
        check(1, sum("caught_up" in update for update in self._updates))
        return end

    async def _first(self, is_wanted: Callable[[dict[str, Any]], bool], kind: str) -> dict[str, Any]:
        async with self._has_grown:
            while True:
                for update in filter(is_wanted, self._updates):
                    return update[kind]
                if self._error:
                    raise StepFailed(f"the subscription failed: {self._error}") from self._error
                if self._updates and "end" in self._updates[-1]:
                    raise StepFailed(f"the subscription ended with the messages {self._updates}")
                await self._has_grown.wait()

    async def _add(self, update: dict[str, Any]) -> None:
        self._updates.append(update)
        await self._notify()

    async def _notify(self) -> None:
        async with self._has_grown:
            self._has_grown.notify_all()
