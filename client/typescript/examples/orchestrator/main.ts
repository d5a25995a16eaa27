/** A small orchestrator: three roles at the same time on one run, with a watcher beside them. */

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { type Client, connect, json, seconds, value } from "runhub";
import { ApprovalVerdict, type Claim, RunStatus, SubscribeStart, TaskStatus } from "runhub/v1";

const start = SubscribeStart.FROM_BEGINNING;

/** Prints each event of the run, until its end. */
async function watch(client: Client, runId: string) {
  for await (const { message } of client.subscribe({ runId, start })) {
    if (message.case === "event") {
      console.log(`${message.value.seq} ${message.value.kind} ${message.value.message}`);
    }
  }
}

/** Strategy: plans the run. */
async function plan(client: Client, runId: string) {
  await client.agents.saveAgentState({ state: { runId, role: "strategy", turns: 1 } });
  const tasks = [
    { key: "parser", title: "Write the parser" },
    { title: "Print errors", dependsOn: ["parser"] },
    { title: "Document it", dependsOn: ["parser"] },
  ];
  await client.tasks.addTasks({ runId, tasks });
  await client.runs.updateRun({ runId, status: RunStatus.RUNNING });
}

/** Implementation: does what it can claim, until nothing is pending. */
async function implement(client: Client, runId: string, agentId: string) {
  for (;;) {
    const { claim, unclaimable } = await client.tasks.claimTask({ runId, agentId, wait: seconds(1) });
    if (claim !== undefined) {
      await work(client, claim);
    } else if (unclaimable?.pending === 0) {
      return;
    }
  }
}

async function work(client: Client, claim: Claim) {
  const { id: taskId = "", title = "" } = claim.task ?? {};
  await using lease = client.keepLease(claim);
  await lease.run(async (signal) => {
    lease.progress({ percent: 50 });
    await sleep(50, undefined, { signal });
  });
  const report = { summary: `Did: ${title}`, result: value({ lines: title.length }) };
  await client.tasks.completeTask({ taskId, leaseToken: claim.leaseToken, ...report });
}

/** Checker: approves the first thing it is asked, as it was shown. */
async function check(client: Client, runId: string) {
  for await (const { message } of client.subscribe({ runId, start, kinds: ["approval_requested"] })) {
    if (message.case === "event") {
      const asked = json(message.value.payload) as { approvalId: string; subjectDigest: string };
      await client.approvals.decideApproval({
        approvalId: asked.approvalId,
        source: "checker",
        verdict: ApprovalVerdict.APPROVED,
        rationale: "All tasks are done",
        expectedSubjectDigest: asked.subjectDigest,
      });
      return;
    }
  }
}

/** Asks for approval of what was done, and uses it; returns how many tasks it was. */
async function ship(client: Client, runId: string) {
  const { tasks } = await client.tasks.listTasks({ runId, statuses: [TaskStatus.COMPLETED] });
  const summaries = tasks.map((task) => task.implementationSummary).join("\n");
  const subjectDigest = `sha256:${createHash("sha256").update(summaries).digest("hex")}`;
  const question = { title: "Ship it?", requestedBy: "implementation", subjectDigest, ttl: seconds(60) };
  const { approval: { id: approvalId = "" } = {} } = await client.approvals.requestApproval({ runId, ...question });
  await client.approvals.waitApproval({ approvalId, wait: seconds(30) });
  await client.approvals.consumeApproval({ approvalId, subjectDigest });
  const payload = value({ tasks: tasks.length });
  await client.checkpoints.createCheckpoint({ runId, status: RunStatus.COMPLETED, payload });
  await client.runs.updateRun({ runId, status: RunStatus.COMPLETED });
  return tasks.length;
}

await using client = connect(process.env.RUNHUB_SERVER);
const { run: { id: runId = "" } = {} } = await client.runs.createRun({ goal: "Ship the parser", repoPath: "/repo" });
const background = [watch(client, runId), check(client, runId)];
await plan(client, runId);
await Promise.all(["agent-1", "agent-2"].map((agent) => implement(client, runId, agent)));
const done = await ship(client, runId);
await Promise.all(background);
console.log(`run ${runId}: ${done} tasks done`);
