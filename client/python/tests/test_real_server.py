"""What else it takes the real server for: two of the scenarios for threads, and a unix socket."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stage import Stage
from test_scenarios import needs_stage

import runhub
from runhub import v1

# Without a stage it is built first; and each step has its own time.
pytestmark = [pytest.mark.timeout(0), pytest.mark.filterwarnings("default:!!!")]

Tell = Callable[[str], None]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    needs_stage()
    async with Stage() as stage:
        yield stage


async def test_lease_lost(stage: Stage) -> None:
    await in_thread(stage, lose_leases)


async def test_two_restarts(stage: Stage) -> None:
    await in_thread(stage, go_on_through_two_restarts)


async def test_the_server_on_a_unix_socket(stage: Stage, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/runhub.sock"
    command = [stage.binary, "serve", "--listen", address, "--db", f"{tmp_path}/runhub.db"]
    server = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        # It is tried until the server is there.
        with runhub.connect(address) as client:
            assert await asyncio.to_thread(create_run, client)
        async with runhub.aio.connect(address) as client:
            assert len((await client.runs.ListRuns(v1.ListRunsRequest())).runs) == 1
    finally:
        server.terminate()
        await server.wait()


async def in_thread(stage: Stage, play: Callable[[runhub.Client, Tell], None]) -> None:
    loop = asyncio.get_running_loop()

    def tell(what: str) -> None:
        asyncio.run_coroutine_threadsafe(stage.tell(what), loop).result()

    with runhub.connect(stage.address) as client:
        await asyncio.wait_for(asyncio.to_thread(play, client, tell), 60)


def lose_leases(client: runhub.Client, tell: Tell) -> None:
    task = add_task(client, run := create_run(client))
    claim = v1.ClaimTaskRequest(run_id=run, agent_id="first", lease_duration={"seconds": 1})
    first = client.tasks.ClaimTask(claim).claim
    with pytest.raises(runhub.LeaseLost) as lost, client.keep_lease(first) as lease:
        client.tasks.RequeueTask(v1.RequeueTaskRequest(task_id=task, reason="stuck"))
        lease.wait(30)
    assert lost.value.because == "taken"
    with pytest.raises(runhub.StaleLease):
        client.tasks.FailTask(v1.FailTaskRequest(task_id=task, lease_token=first.lease_token, summary="late"))
    second = client.tasks.ClaimTask(claim).claim
    with pytest.raises(runhub.LeaseLost) as lost, client.keep_lease(second) as lease:
        tell("kill")
        lease.wait(30)
    assert lost.value.because == "unanswered"
    tell("start")
    report = v1.CompleteTaskRequest(task_id=task, lease_token=second.lease_token, summary="done after all")
    assert client.tasks.CompleteTask(report).task.attempt_count == 2


def go_on_through_two_restarts(client: runhub.Client, tell: Tell) -> None:
    run = create_run(client)
    claim = v1.ClaimTaskRequest(run_id=run, agent_id="patient", wait={"seconds": 50})
    with ThreadPoolExecutor() as threads:
        log = threads.submit(list[v1.SubscribeEventsResponse], client.subscribe(v1.SubscribeEventsRequest(run_id=run)))
        claiming = threads.submit(client.tasks.ClaimTask, claim)
        for kind, end in (("step_1", "kill"), ("step_2", "stop")):
            append(client, run, kind)
            tell(end)
            tell("start")
        append(client, run, "step_3")
        task = add_task(client, run)
        token = claiming.result().claim.lease_token
        client.tasks.CompleteTask(v1.CompleteTaskRequest(task_id=task, lease_token=token, summary="done"))
        client.runs.UpdateRun(v1.UpdateRunRequest(run_id=run, status=v1.RunStatus.RUN_STATUS_COMPLETED))
        updates = log.result()
    steps = ["step_1", "step_2", "step_3"]
    kinds = ["run_created", *steps, "tasks_added", "task_claimed", "task_completed", "run_updated"]
    assert [update.event.kind for update in updates if update.HasField("event")] == kinds
    assert sum(update.HasField("caught_up") for update in updates) == 1
    assert updates[-1].end.reason == v1.EndReason.END_REASON_RUN_ENDED


def create_run(client: runhub.Client) -> str:
    return client.runs.CreateRun(v1.CreateRunRequest(goal="for threads", repo_path="/repo")).run.id


def add_task(client: runhub.Client, run: str) -> str:
    return client.tasks.AddTasks(v1.AddTasksRequest(run_id=run, tasks=[v1.TaskDraft(title="one")])).tasks[0].id


def append(client: runhub.Client, run: str, kind: str) -> None:
    client.events.AppendEvents(v1.AppendEventsRequest(run_id=run, events=[v1.EventDraft(source="agent", kind=kind)]))
