"""This module tests the blocking client and the asyncio client against a real server.

Two tests run scenarios with the blocking client, one test connects to a unix socket, and one test opens many streams.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Connect
from test_scenarios import require_test_server
from test_server import TestServer

import runhub
from runhub import v1

# Disable pytest's time limit, because the first test may have to build the test server. Each scenario has its own time
# limit.
pytestmark = [pytest.mark.timeout(0), pytest.mark.filterwarnings("default:!!!")]

SendCommand = Callable[[str], None]


@pytest.fixture
async def test_server() -> AsyncIterator[TestServer]:
    require_test_server()
    async with TestServer() as server:
        yield server


async def test_blocking_client_passes_scenario_lease_lost(test_server: TestServer) -> None:
    await run_in_thread(test_server, run_lease_lost)


async def test_blocking_client_passes_scenario_two_restarts(test_server: TestServer) -> None:
    await run_in_thread(test_server, run_two_restarts)


async def test_clients_reach_server_on_unix_socket(test_server: TestServer, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/runhub.sock"
    command = [test_server.binary, "serve", "--listen", address, "--db", f"{tmp_path}/runhub.db"]
    server = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        # The client retries the first call until the server listens.
        with runhub.connect(address) as client:
            assert await asyncio.to_thread(create_run, client)
        async with runhub.aio.connect(address) as client:
            assert len((await client.runs.ListRuns(v1.ListRunsRequest())).runs) == 1
    finally:
        server.terminate()
        await server.wait()


# The server runs at most 1,024 calls and streams on one connection.
async def test_call_is_answered_while_client_has_1100_streams(test_server: TestServer, connect: Connect) -> None:
    client = connect(test_server.direct)
    subscriptions = [client.subscribe(v1.SubscribeEventsRequest()) for _ in range(1_100)]
    updates = await asyncio.wait_for(asyncio.gather(*(one.next() for one in subscriptions)), 30)
    assert all(update and update.HasField("caught_up") for update in updates)
    await asyncio.wait_for(client.call("runs", "ListRuns", v1.ListRunsRequest()), 5)


async def run_in_thread(test_server: TestServer, scenario: Callable[[runhub.Client, SendCommand], None]) -> None:
    loop = asyncio.get_running_loop()

    def send_command(command: str) -> None:
        asyncio.run_coroutine_threadsafe(test_server.send_command(command), loop).result()

    with runhub.connect(test_server.address) as client:
        await asyncio.wait_for(asyncio.to_thread(scenario, client, send_command), 60)


def run_lease_lost(client: runhub.Client, send_command: SendCommand) -> None:
    run = create_run(client)
    task = add_task(client, run)
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
        send_command("kill")
        lease.wait(30)
    assert lost.value.because == "unanswered"
    send_command("start")
    report = v1.CompleteTaskRequest(task_id=task, lease_token=second.lease_token, summary="done after all")
    assert client.tasks.CompleteTask(report).task.attempt_count == 2


def run_two_restarts(client: runhub.Client, send_command: SendCommand) -> None:
    run = create_run(client)
    claim = v1.ClaimTaskRequest(run_id=run, agent_id="patient", wait={"seconds": 50})
    with ThreadPoolExecutor() as threads:
        log = threads.submit(list[v1.SubscribeEventsResponse], client.subscribe(v1.SubscribeEventsRequest(run_id=run)))
        claiming = threads.submit(client.tasks.ClaimTask, claim)
        for kind, end in (("step_1", "kill"), ("step_2", "stop")):
            append_event(client, run, kind)
            send_command(end)
            send_command("start")
        append_event(client, run, "step_3")
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


def append_event(client: runhub.Client, run: str, kind: str) -> None:
    client.events.AppendEvents(v1.AppendEventsRequest(run_id=run, events=[v1.EventDraft(source="agent", kind=kind)]))
