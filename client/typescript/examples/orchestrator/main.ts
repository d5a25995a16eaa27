/**
 * This example is a small orchestrator, which plans tasks and starts two agents that complete the tasks. A checker
 * approves the result, and a watcher prints the events.
 */

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { type Client, connect, json, seconds, value } from "runhub";
import { ApprovalVerdict, type Claim, RunStatus, TaskStatus } from "runhub/v1";

async function printEvents(client: Client, runId: string) {
  for await (const { message } of client.subscribe({ runId })) {
    if (message.case === "event") {
      console.log(`${message.value.seq} ${message.value.kind} ${message.value.message}`);
    }
  }
}

async function addTasks(client: Client, runId: string) {
  await client.agents.saveAgentState({ state: { runId, role: "strategy", turns: 1 } });
  const tasks = [
    { key: "parser", title: "Write the parser" },
    { title: "Print errors", dependsOn: ["parser"] },
    { title: "Document it", dependsOn: ["parser"] },
  ];
  await client.tasks.addTasks({ runId, tasks });
  await client.runs.updateRun({ runId, status: RunStatus.RUNNING });
}

async function runAgent(client: Client, runId: string, agentId: string) {
  for (;;) {
    const { claim, unclaimable } = await client.tasks.claimTask({ runId, agentId, wait: seconds(1) });
    if (claim !== undefined) {
      await completeClaim(client, claim);
    } else if (unclaimable?.pending === 0) {
      return;
    }
  }
}

async function completeClaim(client: Client, claim: Claim) {
  await using lease = client.keepLease(claim);
  await lease.run(async (signal) => {
    lease.progress({ percent: 50 });
    await sleep(50, undefined, { signal }); // simulates the execution of the task
  });
  await client.tasks.completeTask({
    taskId: claim.task?.id ?? "",
    leaseToken: claim.leaseToken,
    summary: `${claim.task?.title}: done`,
    result: value({ lines: 120 }),
  });
}

async function approveFirstRequest(client: Client, runId: string) {
  for await (const { message } of client.subscribe({ runId, kinds: ["approval_requested"] })) {
    if (message.case === "event") {
      const approval = json(message.value.payload) as { approvalId: string; subjectDigest: string };
      await client.approvals.decideApproval({
        approvalId: approval.approvalId,
        source: "checker",
        verdict: ApprovalVerdict.APPROVED,
        rationale: "All tasks are done.",
        expectedSubjectDigest: approval.subjectDigest,
      });
      return;
    }
  }
}

/**
 * Requests and consumes an approval for the completed tasks, ends the run, and returns the number of completed tasks.
 */
async function finishRun(client: Client, runId: string) {
  const { tasks } = await client.tasks.listTasks({ runId, statuses: [TaskStatus.COMPLETED] });
  const summaries = tasks.map((task) => task.implementationSummary).join("\n");
  const subjectDigest = `sha256:${createHash("sha256").update(summaries).digest("hex")}`;
  const request = { runId, title: "Ship it?", requestedBy: "implementation", subjectDigest, ttl: seconds(60) };
  const { approval } = await client.approvals.requestApproval(request);
  const approvalId = approval?.id ?? "";
  await client.approvals.waitApproval({ approvalId, wait: seconds(30) });
  await client.approvals.consumeApproval({ approvalId, subjectDigest });
  const payload = value({ tasks: tasks.length });
  await client.checkpoints.createCheckpoint({ runId, status: RunStatus.COMPLETED, payload });
  await client.runs.updateRun({ runId, status: RunStatus.COMPLETED });
  return tasks.length;
}

await using client = connect(process.env.RUNHUB_SERVER);
const { run } = await client.runs.createRun({ goal: "Ship the parser", repoPath: "/repo" });
const runId = run?.id ?? "";
const background = [printEvents(client, runId), approveFirstRequest(client, runId)];
await addTasks(client, runId);
await Promise.all([runAgent(client, runId, "agent 1"), runAgent(client, runId, "agent 2")]);
const done = await finishRun(client, runId);
await Promise.all(background);
console.log(`run ${runId}: ${done} tasks done`);
