"""Plays scenarios by the asyncio client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from matching import Failed, at, expect, filled
from stage import Server, Stage
from watching import Watching

import runhub
from runhub import v1

_LONGEST_STEP = 60.0

# A refusal and a loss come soon, or for another reason than the scenario's.
_SOON = 10.0

# What a step may have, by its verb; anything else would be a check that nobody makes.
_MEMBERS = {
    "call": {"with", "as", "refused", "expect", "save"},
    "answer": {"refused", "expect", "save"},
    "server": set[str](),
    "hold": {"as"},
    "lost": {"because"},
    "let_go": set[str](),
    "work": {"expect", "save"},
    "subscribe": {"as"},
    "seen": {"event", "end", "kinds", "expect", "save"},
    "cli": set[str](),
}

Step = dict[str, Any]


async def play(file: Path, server: str | None = None, binary: str = "runhub", part: str | None = None) -> None:
    """Plays one scenario, or a part of it; raises Failed."""
    parts = _parts(file)
    played = [part] if part else list(parts)
    async with Server(server, binary) if server else Stage() as on:
        playing = [asyncio.create_task(_play_part(on, name, parts[name])) for name in played]
        try:
            await asyncio.gather(*playing)
        finally:
            # When one has failed the others would wait for it.
            for one in playing:
                one.cancel()
            await asyncio.wait(playing)


def _parts(file: Path) -> dict[str, list[Step]]:
    return json.loads(file.read_text())["parts"]


async def _play_part(server: Server, name: str, steps: list[Step]) -> None:
    async with runhub.aio.connect(server.address) as client:
        part = Part(server, client)
        try:
            for number, step in enumerate(steps, 1):
                try:
                    await asyncio.wait_for(
                        part.play(step), _SOON if step.keys() & {"refused", "lost"} else _LONGEST_STEP
                    )
                except (Failed, runhub.Error, runhub.LeaseLost, asyncio.TimeoutError, LookupError) as error:
                    raise Failed(f"part {name}, step {number}, {json.dumps(step)}: {error!r}") from error
        finally:
            await part.close()


class Part:
    """One part, with its variables and what it has under way."""

    def __init__(self, server: Server, client: runhub.aio.AsyncClient) -> None:
        self._server = server
        self._client = client
        self._variables: dict[str, Any] = {}
        self._under_way: dict[str, asyncio.Task[Any]] = {}
        self._let_go: dict[str, asyncio.Event] = {}
        self._watching: dict[str, Watching] = {}
        self._services: dict[str, Any] = {
            "RunService": client.runs,
            "AgentService": client.agents,
            "TaskService": client.tasks,
            "EventService": client.events,
            "ApprovalService": client.approvals,
            "CheckpointService": client.checkpoints,
            "ArtifactService": client.artifacts,
            "ServerService": client.server,
        }
        self._verbs: dict[str, Callable[[Step], Awaitable[Any]]] = {
            "call": self._make_call,
            "answer": self._wait_for_answer,
            "server": self._tell_server,
            "hold": self._hold,
            "lost": self._wait_until_lost,
            "let_go": self._end_hold,
            "work": self._work,
            "subscribe": self._subscribe,
            "seen": self._wait_until_seen,
            "cli": self._run_command,
        }

    async def play(self, step: Step) -> None:
        """Plays a step."""
        step = filled(step, self._variables)
        verb = next((verb for verb in self._verbs if verb in step), "a verb")
        if unknown := step.keys() - _MEMBERS.get(verb, set()) - {verb, "why"}:
            raise Failed(f"a step with {verb} takes no {', '.join(sorted(unknown))}")
        answer = await self._verbs[verb](step)
        if "expect" in step:
            expect(step["expect"], answer)
        for name, path in step.get("save", {}).items():
            self._variables[name] = at(path, answer)

    async def close(self) -> None:
        """Ends what is under way."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _make_call(self, step: Step) -> Any:
        service, method = step["call"].split("/")
        request = ParseDict(step.get("with", {}), getattr(v1, f"{method}Request")())
        call = _as_json(getattr(self._services[service], method)(request))
        if "as" in step:
            self._under_way[step["as"]] = asyncio.create_task(call)
            return None
        return await _answer(call, step)

    async def _wait_for_answer(self, step: Step) -> Any:
        return await _answer(self._under_way[step["answer"]], step)

    async def _tell_server(self, step: Step) -> None:
        await self._server.tell(step["server"])

    async def _hold(self, step: Step) -> None:
        let_go = self._let_go[step["as"]] = asyncio.Event()
        claim = ParseDict(step["hold"], v1.Claim())

        async def work() -> None:
            async with self._client.keep_lease(claim):
                await let_go.wait()

        self._under_way[step["as"]] = asyncio.create_task(work())

    async def _wait_until_lost(self, step: Step) -> None:
        try:
            await self._under_way[step["lost"]]
        except runhub.LeaseLost as lost:
            expect(step["because"], lost.because)
        else:
            raise Failed("the work has ended by itself")

    async def _end_hold(self, step: Step) -> None:
        self._let_go[step["let_go"]].set()
        await self._under_way[step["let_go"]]

    async def _work(self, step: Step) -> Any:
        request = ParseDict(step["work"], v1.ClaimTaskRequest())
        done = 0
        while True:
            try:
                answer = await self._client.tasks.ClaimTask(request)
            except runhub.RunEnded:
                return {"done": done}
            if answer.HasField("claim"):
                await self._do(answer.claim)
                done += 1
            elif answer.unclaimable.pending == 0:
                return {"done": done}

    async def _do(self, claim: v1.Claim) -> None:
        async with self._client.keep_lease(claim):
            # The work: it gives the first beat time to go out.
            await asyncio.sleep(0)
        await self._client.tasks.CompleteTask(
            v1.CompleteTaskRequest(task_id=claim.task.id, lease_token=claim.lease_token, summary="done in python")
        )

    async def _subscribe(self, step: Step) -> None:
        request = ParseDict(step["subscribe"], v1.SubscribeEventsRequest())
        watching = self._watching[step["as"]] = Watching()
        self._under_way[step["as"]] = asyncio.create_task(watching.watch(self._client.subscribe(request)))

    async def _wait_until_seen(self, step: Step) -> Any:
        watching = self._watching[step["seen"]]
        if "event" in step:
            return await watching.event(step["event"])
        return await watching.end(step["end"], step["kinds"])

    async def _run_command(self, step: Step) -> None:
        await self._server.cli(step["cli"])


async def _as_json(call: Awaitable[Message]) -> Any:
    return MessageToDict(await call, preserving_proto_field_name=True)


async def _answer(call: Awaitable[Any], step: Step) -> Any:
    """The answer; or, if that is what is wanted, nothing and a refusal."""
    if "refused" not in step:
        return await call
    try:
        answer = await call
    except runhub.Error as error:
        got = {"reason": error.reason, "code": error.code().name, "metadata": error.metadata}
        expect(step["refused"], got | {"fields": [field for field, _ in error.fields]})
        return None
    raise Failed(f"wanted {step['refused']}, got the answer {answer}")
