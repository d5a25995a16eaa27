"""This module collects the messages that a scenario's subscription receives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf.json_format import MessageToDict
from matching import StepFailed, expect_match, matches

import runhub


class Collector:
    """Stores the messages of one subscription, and wakes the steps that wait for a message."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._updates: list[dict[str, Any]] = []
        self._error: runhub.Error | None = None
        self._has_grown = asyncio.Condition()

    async def collect(self, subscription: runhub.aio.AsyncSubscription) -> None:
        """Stores each message of the subscription until the subscription ends or fails."""
        try:
            async with subscription:
                async for update in subscription:
                    await self._add(MessageToDict(update, preserving_proto_field_name=True))
        except runhub.Error as error:
            self._error = error
            await self._notify()

    async def wait_for_event(self, expected: dict[str, Any]) -> dict[str, Any]:
        """Waits for the first event that matches `expected` and returns the event.

        Raises StepFailed if the subscription ends or fails without a matching event.
        """
        return await self._wait_for_first(lambda update: matches(expected, update.get("event")), "event")

    async def wait_for_end(self, reason: str, kinds: list[str]) -> dict[str, Any]:
        """Waits for the message `end` and returns the message.

        Raises StepFailed if the subscription fails or the reason for the end is not `reason`. Also raises StepFailed if
        the kinds of the events are not `kinds`, an event is a duplicate, or the number of `caught_up` messages is
        not 1.
        """
        end = await self._wait_for_first(lambda update: "end" in update, "end")
        expect_match(reason, end["reason"])
        events = [update["event"] for update in self._updates if "event" in update]
        expect_match(kinds, [event["kind"] for event in events])
        expect_match(len(events), len({event["position"] for event in events}))
        expect_match(1, sum("caught_up" in update for update in self._updates))
        return end

    async def _wait_for_first(self, is_wanted: Callable[[dict[str, Any]], bool], kind: str) -> dict[str, Any]:
        async with self._has_grown:
            while True:
                for update in filter(is_wanted, self._updates):
                    return update[kind]
                if self._error:
                    text = f"the subscription {self._name} failed before the expected {kind} arrived: {self._error}"
                    raise StepFailed(text) from self._error
                if self._updates and "end" in self._updates[-1]:
                    raise StepFailed(
                        f"the subscription {self._name} yielded the messages {self._updates}, but not the expected "
                        f"{kind}: check the scenario's steps before this step"
                    )
                await self._has_grown.wait()

    async def _add(self, update: dict[str, Any]) -> None:
        self._updates.append(update)
        await self._notify()

    async def _notify(self) -> None:
        async with self._has_grown:
            self._has_grown.notify_all()
