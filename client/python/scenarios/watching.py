"""What a scenario's subscription has brought."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf.json_format import MessageToDict
from matching import Failed, expect, matches

import runhub


class Watching:
    """A subscription that is read in the background."""

    def __init__(self) -> None:
        self._updates: list[dict[str, Any]] = []
        self._error: runhub.Error | None = None
        self._more = asyncio.Condition()

    async def watch(self, subscription: runhub.aio.AsyncSubscription) -> None:
        """Collects what it brings until its end."""
        try:
            async with subscription:
                async for update in subscription:
                    await self._add(MessageToDict(update, preserving_proto_field_name=True))
        except runhub.Error as error:
            self._error = error
            await self._tell()

    async def event(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Waits for the first event that matches."""
        return await self._first(lambda update: matches(wanted, update.get("event")), "event")

    async def end(self, reason: str, kinds: list[str]) -> dict[str, Any]:
        """Waits for the end, and looks at all there was."""
        end = await self._first(lambda update: "end" in update, "end")
        expect(reason, end["reason"])
        events = [update["event"] for update in self._updates if "event" in update]
        expect(kinds, [event["kind"] for event in events])
        expect(len(events), len({event["position"] for event in events}))
        expect(1, sum("caught_up" in update for update in self._updates))
        return end

    async def _first(self, is_wanted: Callable[[dict[str, Any]], bool], kind: str) -> dict[str, Any]:
        async with self._more:
            while True:
                for update in filter(is_wanted, self._updates):
                    return update[kind]
                if self._error:
                    raise Failed(f"the subscription has failed: {self._error}") from self._error
                if self._updates and "end" in self._updates[-1]:
                    raise Failed(f"the subscription has ended with {self._updates}")
                await self._more.wait()

    async def _add(self, update: dict[str, Any]) -> None:
        self._updates.append(update)
        await self._tell()

    async def _tell(self) -> None:
        async with self._more:
            self._more.notify_all()
