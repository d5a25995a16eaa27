"""Plays scenarios with the asyncio client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from collector import Collector
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from matching import StepFailed, check, substitute, value_at
from stage import Server, Stage

import runhub
from runhub import v1

# The time limit of a step, in seconds.
_STEP_LIMIT = 60.0

# The time limit of a step that expects an error or a lost lease. After more time, the client has retried a refused
# call, or the lease was lost for another reason.
_SHORT_STEP_LIMIT = 10.0

# The members that a step may have, by its verb. A step with any other member fails, because nothing would check it.
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
    """Plays one scenario, or one part of it. Raises StepFailed if a step fails."""
    parts = _parts(file)
    names = [part] if part else list(parts)
    async with Server(server, binary) if server else Stage() as target:
        playing = [asyncio.create_task(_play_part(target, name, parts[name])) for name in names]
        try:
            await asyncio.gather(*playing)
        finally:
            # If one part has failed, the other parts would wait for it.
            for task in playing:
                task.cancel()
            await asyncio.wait(playing)


def _parts(file: Path) -> dict[str, list[Step]]:
    return json.loads(file.read_text())["parts"]


async def _play_part(server: Server, name: str, steps: list[Step]) -> None:
    async with runhub.aio.connect(server.address) as client:
        player = PartPlayer(server, client)
        try:
            for number, step in enumerate(steps, 1):
                try:
                    await asyncio.wait_for(player.play(step), _limit(step))
                except (StepFailed, runhub.Error, runhub.LeaseLost, asyncio.TimeoutError, LookupError) as error:
                    raise StepFailed(f"part {name}, step {number}, {json.dumps(step)}: {error!r}") from error
        finally:
            await player.close()


def _limit(step: Step) -> float:
    return _SHORT_STEP_LIMIT if step.keys() & {"refused", "lost"} else _STEP_LIMIT


class PartPlayer:
    """Plays the steps of one part. Holds the part's variables and background work."""

    def __init__(self, server: Server, client: runhub.aio.AsyncClient) -> None:
        self._server = server
        self._client = client
        self._variables: dict[str, Any] = {}
        self._background: dict[str, asyncio.Task[Any]] = {}
        self._let_go: dict[str, asyncio.Event] = {}
        self._collectors: dict[str, Collector] = {}
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
            "server": self._command_stage,
            "hold": self._hold,
            "lost": self._wait_until_lost,
            "let_go": self._end_hold,
            "work": self._work,
            "subscribe": self._subscribe,
            "seen": self._wait_until_seen,
            "cli": self._run_cli,
        }

    async def play(self, step: Step) -> None:
        """Plays a step. Raises StepFailed if its result is not as expected."""
        step = substitute(step, self._variables)
        verb = next((verb for verb in self._verbs if verb in step), None)
        if verb is None:
            raise StepFailed(f"the step has no known verb, only {', '.join(sorted(step))}")
        if unknown := step.keys() - _MEMBERS[verb] - {verb, "why"}:
            raise StepFailed(f"a step with {verb} must not have the members {', '.join(sorted(unknown))}")
        answer = await self._verbs[verb](step)
        if "expect" in step:
            check(step["expect"], answer)
        for name, path in step.get("save", {}).items():
            self._variables[name] = value_at(path, answer)

    async def close(self) -> None:
        """Cancels the background work and waits until it has ended."""
        for task in self._background.values():
            task.cancel()
        await asyncio.gather(*self._background.values(), return_exceptions=True)

    async def _make_call(self, step: Step) -> Any:
        service, method = step["call"].split("/")
        request = ParseDict(step.get("with", {}), getattr(v1, f"{method}Request")())
        call = _as_json(getattr(self._services[service], method)(request))
        if "as" in step:
            self._background[step["as"]] = asyncio.create_task(call)
            return None
        return await _answer(call, step)

    async def _wait_for_answer(self, step: Step) -> Any:
        return await _answer(self._background[step["answer"]], step)

    async def _command_stage(self, step: Step) -> None:
        await self._server.command(step["server"])

    async def _hold(self, step: Step) -> None:
        let_go = asyncio.Event()
        self._let_go[step["as"]] = let_go
        claim = ParseDict(step["hold"], v1.Claim())

        async def work() -> None:
            async with self._client.keep_lease(claim):
                await let_go.wait()

        self._background[step["as"]] = asyncio.create_task(work())

    async def _wait_until_lost(self, step: Step) -> None:
        try:
            await self._background[step["lost"]]
        except runhub.LeaseLost as lost:
            check(step["because"], lost.because)
        else:
            raise StepFailed("the work ended, but its lease was not lost")

    async def _end_hold(self, step: Step) -> None:
        self._let_go[step["let_go"]].set()
        await self._background[step["let_go"]]

    async def _work(self, step: Step) -> Any:
        request = ParseDict(step["work"], v1.ClaimTaskRequest())
        done = 0
        while True:
            try:
                answer = await self._client.tasks.ClaimTask(request)
            except runhub.RunEnded:
                return {"done": done}
            if answer.HasField("claim"):
                await self._complete(answer.claim)
                done += 1
            elif answer.unclaimable.pending == 0:
                return {"done": done}

    async def _complete(self, claim: v1.Claim) -> None:
        async with self._client.keep_lease(claim):
            # Lets the keeper's task start, so that it sends a heartbeat.
            await asyncio.sleep(0)
        await self._client.tasks.CompleteTask(
            v1.CompleteTaskRequest(task_id=claim.task.id, lease_token=claim.lease_token, summary="done in python")
        )

    async def _subscribe(self, step: Step) -> None:
        request = ParseDict(step["subscribe"], v1.SubscribeEventsRequest())
        collector = Collector()
        self._collectors[step["as"]] = collector
        self._background[step["as"]] = asyncio.create_task(collector.collect(self._client.subscribe(request)))

    async def _wait_until_seen(self, step: Step) -> Any:
        collector = self._collectors[step["seen"]]
        if "event" in step:
            return await collector.event(step["event"])
        return await collector.end(step["end"], step["kinds"])

    async def _run_cli(self, step: Step) -> None:
        await self._server.cli(step["cli"])


async def _as_json(call: Awaitable[Message]) -> Any:
    return MessageToDict(await call, preserving_proto_field_name=True)


async def _answer(call: Awaitable[Any], step: Step) -> Any:
    """Returns the call's answer. If the step expects an error, checks the error and returns None."""
    if "refused" not in step:
        return await call
    try:
        answer = await call
    except runhub.Error as error:
        actual = {
            "reason": error.reason,
            "code": error.code().name,
            "metadata": error.metadata,
            "fields": [field for field, _ in error.fields],
        }
        check(step["refused"], actual)
        return None
    raise StepFailed(f"expected the error {step['refused']}, got the answer {answer}")
