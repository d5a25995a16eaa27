"""This example runs a small orchestrator: a strategy agent adds the tasks, two agents complete the tasks, a checker
approves the result, and a watcher prints the events."""

from __future__ import annotations

import asyncio
import hashlib
import os

import runhub
from runhub import v1

Client = runhub.aio.AsyncClient

COMPLETED = v1.RunStatus.RUN_STATUS_COMPLETED


async def main() -> None:
    async with runhub.aio.connect(os.environ.get("RUNHUB_SERVER", "127.0.0.1:50051")) as client:
        run = (await client.runs.CreateRun(v1.CreateRunRequest(goal="Ship the parser", repo_path="/repo"))).run.id
        watcher = asyncio.create_task(print_events(client, run))
        checker = asyncio.create_task(approve_first_request(client, run))
        await add_tasks(client, run)
        await asyncio.gather(run_agent(client, run, "agent 1"), run_agent(client, run, "agent 2"))
        done = await finish_run(client, run)
        await asyncio.gather(watcher, checker)
        print(f"run {run}: {done} tasks done")


async def print_events(client: Client, run: str) -> None:
    async for update in client.subscribe(v1.SubscribeEventsRequest(run_id=run)):
        if update.HasField("event"):
            print(update.event.seq, update.event.kind, update.event.message)


async def add_tasks(client: Client, run: str) -> None:
    state = v1.AgentState(run_id=run, role="strategy", turns=1)
    await client.agents.SaveAgentState(v1.SaveAgentStateRequest(state=state))
    tasks = [
        v1.TaskDraft(key="parser", title="Write the parser"),
        v1.TaskDraft(title="Print errors", depends_on=["parser"]),
        v1.TaskDraft(title="Document it", depends_on=["parser"]),
    ]
    await client.tasks.AddTasks(v1.AddTasksRequest(run_id=run, tasks=tasks))
    await client.runs.UpdateRun(v1.UpdateRunRequest(run_id=run, status=v1.RunStatus.RUN_STATUS_RUNNING))


async def run_agent(client: Client, run: str, agent: str) -> None:
    request = v1.ClaimTaskRequest(run_id=run, agent_id=agent, wait={"seconds": 1})
    while True:
        answer = await client.tasks.ClaimTask(request)
        if answer.HasField("claim"):
            await complete_claim(client, answer.claim)
        elif not answer.unclaimable.pending:
            return


async def complete_claim(client: Client, claim: v1.Claim) -> None:
    async with client.keep_lease(claim) as lease:
        lease.progress({"percent": 50})
        await asyncio.sleep(0.05)  # simulates the execution of the task
    report = v1.CompleteTaskRequest(task_id=claim.task.id, lease_token=claim.lease_token)
    report.summary = f"{claim.task.title}: done"
    report.result.CopyFrom(runhub.value({"lines": 120}))
    await client.tasks.CompleteTask(report)


async def approve_first_request(client: Client, run: str) -> None:
    async for update in client.subscribe(v1.SubscribeEventsRequest(run_id=run, kinds=["approval_requested"])):
        if update.HasField("event"):
            approval = runhub.to_json(update.event.payload)
            decision = v1.DecideApprovalRequest(approval_id=approval["approvalId"], source="checker")
            decision.verdict = v1.ApprovalVerdict.APPROVAL_VERDICT_APPROVED
            decision.rationale = "All tasks are done."
            decision.expected_subject_digest = approval["subjectDigest"]
            await client.approvals.DecideApproval(decision)
            return


async def finish_run(client: Client, run: str) -> int:
    tasks = (await client.tasks.ListTasks(v1.ListTasksRequest(run_id=run, statuses=["TASK_STATUS_COMPLETED"]))).tasks
    digest = "sha256:" + hashlib.sha256("\n".join(task.implementation_summary for task in tasks).encode()).hexdigest()
    request = v1.RequestApprovalRequest(
        run_id=run, title="Ship it?", requested_by="implementation", subject_digest=digest, ttl={"seconds": 60}
    )
    approval = (await client.approvals.RequestApproval(request)).approval.id
    await client.approvals.WaitApproval(v1.WaitApprovalRequest(approval_id=approval, wait={"seconds": 30}))
    await client.approvals.ConsumeApproval(v1.ConsumeApprovalRequest(approval_id=approval, subject_digest=digest))
    payload = runhub.value({"tasks": len(tasks)})
    await client.checkpoints.CreateCheckpoint(v1.CreateCheckpointRequest(run_id=run, status=COMPLETED, payload=payload))
    await client.runs.UpdateRun(v1.UpdateRunRequest(run_id=run, status=COMPLETED))
    return len(tasks)


asyncio.run(main())
