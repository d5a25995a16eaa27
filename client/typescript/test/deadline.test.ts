import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { durationMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";

import { Code, seconds } from "../src/index.js";
import {
  catchError,
  Deferred,
  newRefusal,
  newRun,
  serveRuns,
  serveRunsAfterErrors,
  serveTasks,
  type TaskHandlers,
  throwWhenAborted,
} from "./fake.js";

describe("the deadline", () => {
  it("covers all retries and ends the call with the last error", async () => {
    const ids: string[] = [];
    await using server = await serveRuns({
      createRun({ requestId }) {
        ids.push(requestId);
        throw new ConnectError("down", Code.Unavailable);
      },
    });
    await using client = server.connect({ deadlineMs: 1_000 });
    const begin = performance.now();
    const error = await catchError(client.runs.createRun(newRun));
    const took = performance.now() - begin;
    assert.equal(error.code, Code.Unavailable);
    assert.ok(took >= 995 && took < 20_000, `${took} ms`);
    assert.ok(ids.length > 2, `the server received ${ids.length} calls, but the test expects at least 3`);
  });

  it("ends a hanging call, also on the server", async () => {
    const ended = new Deferred();
    await using server = await serveRuns({
      async createRun(_, { signal }) {
        signal.addEventListener("abort", () => ended.resolve());
        return await throwWhenAborted(signal);
      },
    });
    // With a shorter deadline, the call could end before the request has reached the server.
    await using client = server.connect({ deadlineMs: 1_000 });
    assert.equal((await catchError(client.runs.createRun(newRun))).code, Code.DeadlineExceeded);
    await ended.promise;
  });

  /**
   * Answers each ClaimTask call that sets `wait`, but only after 300 ms, which is longer than the client's deadline of
   * 200 ms. Never answers a ClaimTask call that does not set `wait`.
   */
  const slow: TaskHandlers = {
    async claimTask({ wait }, { signal }) {
      await (wait === undefined ? throwWhenAborted(signal) : sleep(300));
      return {};
    },
  };

  it("is extended by the request's wait", async () => {
    await using server = await serveTasks(slow);
    await using client = server.connect({ deadlineMs: 200 });
    await client.tasks.claimTask({ agentId: "me", wait: seconds(60) });
    assert.equal((await catchError(client.tasks.claimTask({ agentId: "me" }))).code, Code.DeadlineExceeded);
  });

  it("is replaced by the caller's timeoutMs", async () => {
    await using server = await serveTasks({
      async claimTask({ agentId }, { signal }) {
        await (agentId === "forever" ? throwWhenAborted(signal) : sleep(300));
        return {};
      },
    });
    await using client = server.connect({ deadlineMs: 10 });
    await client.tasks.claimTask({ agentId: "me" }, { timeoutMs: 60_000 });
    const request = { agentId: "forever", wait: seconds(300) };
    const error = await catchError(client.tasks.claimTask(request, { timeoutMs: 50 }));
    assert.equal(error.code, Code.DeadlineExceeded);
  });

  it("makes each retry request the remaining wait", async () => {
    const received: { id: string; waitMs: number }[] = [];
    await using server = await serveTasks({
      claimTask({ requestId, wait }) {
        received.push({ id: requestId, waitMs: wait === undefined ? 0 : durationMs(wait) });
        if (received.length < 3) {
          throw new ConnectError("down", Code.Unavailable);
        }
        return {};
      },
    });
    await using client = server.connect();
    await client.tasks.claimTask({ agentId: "me", wait: seconds(60) });
    const [first = 0, second = 0, third = 0] = received.map(({ waitMs }) => waitMs);
    assert.ok(first === 60_000 && second < first && third < second && third > 50_000, `${first}, ${second}, ${third}`);
    assert.equal(new Set(received.map(({ id }) => id)).size, 1);
  });

  it("is not shortened by a negative wait", async () => {
    await using server = await serveTasks({
      claimTask: () => Promise.reject(newRefusal(Code.InvalidArgument, "INVALID_FIELD")),
    });
    await using client = server.connect({ deadlineMs: 10_000 });
    const refused = await catchError(client.tasks.claimTask({ agentId: "me", wait: seconds(-60) }));
    assert.equal(refused.reason, "INVALID_FIELD");
  });
});

describe("a caller's signal", () => {
  it("ends a call that waits for the response", async () => {
    const begun = new Deferred();
    await using server = await serveRuns({
      async createRun(_, { signal }) {
        begun.resolve();
        return await throwWhenAborted(signal);
      },
    });
    await using client = server.connect();
    const stop = new AbortController();
    const error = catchError(client.runs.createRun(newRun, { signal: stop.signal }));
    await begun.promise;
    stop.abort(new Error("the user cancelled the CreateRun call: call CreateRun again"));
    assert.equal((await error).code, Code.Canceled);
    assert.equal(((await error).cause as Error).message, "the user cancelled the CreateRun call: call CreateRun again");
  });

  it("ends the pause before a retry", async () => {
    const stop = new AbortController();
    await using server = await serveRuns({
      createRun() {
        setImmediate(() => stop.abort());
        throw newRefusal(Code.ResourceExhausted, "OVERLOADED", { retryDelayMs: 60_000 });
      },
    });
    await using client = server.connect({ deadlineMs: 120_000 });
    assert.equal((await catchError(client.runs.createRun(newRun, { signal: stop.signal }))).code, Code.Canceled);
  });

  it("ends an aborted call before the first request", async () => {
    const { server, ids } = await serveRunsAfterErrors();
    await using _server = server;
    await using client = server.connect();
    const error = await catchError(client.runs.createRun(newRun, { signal: AbortSignal.abort() }));
    assert.equal(error.code, Code.Canceled);
    assert.equal(ids.length, 0);
  });
});
