"""This module runs scenarios with the asyncio client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from collector import Collector
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from matching import StepFailed, expect_match, find_value, substitute
from test_server import Server, TestServer

import runhub
from runhub import v1

# The time limit in seconds of a step that expects neither an error nor a lost lease.
_STEP_LIMIT = 60.0

# The time limit in seconds of a step that expects an error or a lost lease. If the client retries the refused call
# until the client's deadline of 30 s, the step exceeds this limit and fails.
_SHORT_STEP_LIMIT = 10.0

# The verbs of a scenario step, and for each verb the JSON members that the step may have in addition to the verb and
# `why`. If a step has any other member, the step fails, because the runner would otherwise ignore a check whose name is
# misspelled.
_MEMBERS = {
    "call": {"with", "as", "refused", "expect", "save"},
    "answer": {"refused", "expect", "save"},
    "server": set[str](),
    "keep_lease": {"as"},
    "lost": {"cause"},
    "stop_keeper": set[str](),
    "work": {"expect", "save"},
    "subscribe": {"as"},
    "seen": {"event", "end", "kinds", "expect", "save"},
    "cli": set[str](),
}

Step = dict[str, Any]


async def run_scenario(
    file: Path, server: str | None = None, binary: str = "runhub", participant: str | None = None
) -> None:
    """Runs the steps of all participants of a scenario at the same time, or only of the participant with the name
    `participant`.

    If `server` is None, starts a test server for the scenario. Raises StepFailed if a step fails, and KeyError if the
    scenario has no participant with the name `participant`.
    """
    participants = _read_participants(file)
    names = [participant] if participant else list(participants)
    async with Server(server, binary) if server else TestServer() as target:
        running = [asyncio.create_task(_run_participant(target, name, participants[name])) for name in names]
        try:
            await asyncio.gather(*running)
        finally:
            # If one participant fails, cancel the remaining participants. Otherwise a remaining participant that
            # depends on the failed participant would only end after the time limit of a step.
            for task in running:
                task.cancel()
            await asyncio.wait(running)


def _read_participants(file: Path) -> dict[str, list[Step]]:
    return json.loads(file.read_text())["participants"]


async def _run_participant(server: Server, name: str, steps: list[Step]) -> None:
    async with runhub.aio.connect(server.address) as client:
        runner = ParticipantRunner(server, client)
        try:
            for number, step in enumerate(steps, 1):
                try:
                    await asyncio.wait_for(runner.run_step(step), _choose_step_limit(step))
                except (StepFailed, runhub.Error, runhub.LeaseLost, asyncio.TimeoutError, LookupError) as error:
                    text = f"step {number} of the participant {name} failed: {json.dumps(step)}: {error!r}"
                    raise StepFailed(text) from error
        finally:
            await runner.close()


def _choose_step_limit(step: Step) -> float:
    return _SHORT_STEP_LIMIT if step.keys() & {"refused", "lost"} else _STEP_LIMIT


class ParticipantRunner:
    """Runs the steps of one participant of a scenario, and stores the participant's variables and asyncio tasks."""

    def __init__(self, server: Server, client: runhub.aio.AsyncClient) -> None:
        self._server = server
        self._client = client
        self._variables: dict[str, Any] = {}
        self._background: dict[str, asyncio.Task[Any]] = {}
        self._stop_requests: dict[str, asyncio.Event] = {}
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
            "answer": self._wait_for_response,
            "server": self._send_command,
            "keep_lease": self._keep_lease,
            "lost": self._wait_for_lost_lease,
            "stop_keeper": self._stop_keeper,
            "work": self._claim_and_complete_tasks,
            "subscribe": self._subscribe,
            "seen": self._wait_for_update,
            "cli": self._run_cli,
        }

    async def run_step(self, step: Step) -> None:
        """Runs one step, and sets the variables that the step's member `save` names.

        Raises StepFailed if the step is malformed, or if the result differs from the expected result.
        """
        step = substitute(step, self._variables)
        verb = next((verb for verb in self._verbs if verb in step), None)
        if verb is None:
            members, verbs = ", ".join(sorted(step)), ", ".join(self._verbs)
            raise StepFailed(f"the step has no verb, only the members {members}: use one of the verbs {verbs}")
        if unknown := step.keys() - _MEMBERS[verb] - {verb, "why"}:
            names = ", ".join(sorted(unknown))
            raise StepFailed(f"a step with the verb {verb} must not have the members {names}: remove these members")
        answer = await self._verbs[verb](step)
        if "expect" in step:
            expect_match(step["expect"], answer)
        for name, path in step.get("save", {}).items():
            self._variables[name] = find_value(path, answer)

    async def close(self) -> None:
        """Cancels the participant's asyncio tasks and waits until the asyncio tasks have ended."""
        for task in self._background.values():
            task.cancel()
        await asyncio.gather(*self._background.values(), return_exceptions=True)

    async def _make_call(self, step: Step) -> Any:
        service, method = step["call"].split("/")
        request = ParseDict(step.get("with", {}), getattr(v1, f"{method}Request")())
        call = _wait_for_json_response(getattr(self._services[service], method)(request))
        if "as" in step:
            self._background[step["as"]] = asyncio.create_task(call)
            return None
        return await _check_response(call, step)

    async def _wait_for_response(self, step: Step) -> Any:
        return await _check_response(self._background[step["answer"]], step)

    async def _send_command(self, step: Step) -> None:
        await self._server.send_command(step["server"])

    async def _keep_lease(self, step: Step) -> None:
        stop_request = asyncio.Event()
        self._stop_requests[step["as"]] = stop_request
        claim = ParseDict(step["keep_lease"], v1.Claim())

        async def hold_lease() -> None:
            async with self._client.keep_lease(claim):
                await stop_request.wait()

        self._background[step["as"]] = asyncio.create_task(hold_lease())

    async def _wait_for_lost_lease(self, step: Step) -> None:
        try:
            await self._background[step["lost"]]
        except runhub.LeaseLost as lost:
            expect_match(step["cause"], lost.because)
        else:
            raise StepFailed(
                f"the lease {step['lost']} must be lost, but the client held the lease until the heartbeats stopped: "
                "check the scenario's steps before this step"
            )

    async def _stop_keeper(self, step: Step) -> None:
        self._stop_requests[step["stop_keeper"]].set()
        await self._background[step["stop_keeper"]]

    async def _claim_and_complete_tasks(self, step: Step) -> Any:
        request = ParseDict(step["work"], v1.ClaimTaskRequest())
        done = 0
        while True:
            try:
                answer = await self._client.tasks.ClaimTask(request)
            except runhub.RunEnded:
                return {"done": done}
            if answer.HasField("claim"):
                await self._complete_task(answer.claim)
                done += 1
            elif answer.unclaimable.pending == 0:
                return {"done": done}

    async def _complete_task(self, claim: v1.Claim) -> None:
        async with self._client.keep_lease(claim):
            # Let the lease's background asyncio task start and send a heartbeat. Without this pause, the `async with`
            # block of the lease would end before the first heartbeat.
            await asyncio.sleep(0)
        await self._client.tasks.CompleteTask(
            v1.CompleteTaskRequest(task_id=claim.task.id, lease_token=claim.lease_token, summary="done in python")
        )

    async def _subscribe(self, step: Step) -> None:
        request = ParseDict(step["subscribe"], v1.SubscribeEventsRequest())
        collector = Collector(step["as"])
        self._collectors[step["as"]] = collector
        self._background[step["as"]] = asyncio.create_task(collector.collect(self._client.subscribe(request)))

    async def _wait_for_update(self, step: Step) -> Any:
        collector = self._collectors[step["seen"]]
        if "event" in step:
            return await collector.wait_for_event(step["event"])
        return await collector.wait_for_end(step["end"], step["kinds"])

    async def _run_cli(self, step: Step) -> None:
        await self._server.run_cli(step["cli"])


async def _wait_for_json_response(call: Awaitable[Message]) -> Any:
    return MessageToDict(await call, preserving_proto_field_name=True)


async def _check_response(call: Awaitable[Any], step: Step) -> Any:
    """Waits for the step's call and returns the response as JSON. If the step has the member `refused`, checks the
    call's error and returns None.

    Raises StepFailed if the call succeeds although the step has `refused`, or if the error differs from `refused`.
    """
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
        expect_match(step["refused"], actual)
        return None
    raise StepFailed(
        f"the step's call must fail with the error {step['refused']}, but returned the response {answer}: "
        "check the scenario's steps before the call"
    )
