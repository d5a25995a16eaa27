import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { ConnectError, type ServiceImpl } from "@connectrpc/connect";

import { Code, connect, RunhubError, seconds } from "../src/index.js";
import {
  CreateRunRequestSchema,
  EventService,
  HeartbeatRequestSchema,
  RunService,
  ServerService,
  TaskService,
} from "../src/v1.js";
import { FakeServer, Gate, never, refusal } from "./fake.js";

type Runs = Partial<ServiceImpl<typeof RunService>>;
type Tasks = Partial<ServiceImpl<typeof TaskService>>;

const serveRuns = (runs: Runs) => FakeServer.start((router) => router.service(RunService, runs));
const serveTasks = (tasks: Tasks) => FakeServer.start((router) => router.service(TaskService, tasks));

/** What the call is refused with. */
async function errorOf(call: Promise<unknown>): Promise<RunhubError> {
  const error = await call.then(
    () => undefined,
    (error) => error,
  );
  assert.ok(error instanceof RunhubError, `it was no RunhubError but ${error}`);
  return error;
}

/** Serves CreateRun, first with these errors; collects the ids and times of the tries. */
async function flaky(...errors: (ConnectError | "cut")[]) {
  const ids: string[] = [];
  const times: number[] = [];
  const server = await serveRuns({
    createRun({ requestId }) {
      ids.push(requestId);
      times.push(performance.now());
      const error = errors.shift();
      if (error === "cut") {
        server.cut();
      } else if (error !== undefined) {
        throw error;
      }
      return { run: { id: "run" } };
    },
  });
  return { server, ids, times };
}

const newRun = { goal: "goal", repoPath: "/repo" };

describe("tries", () => {
  const passing = {
    "UNAVAILABLE without a reason": new ConnectError("away", Code.Unavailable),
    DRAINING: refusal(Code.Unavailable, "DRAINING"),
    STORE_BUSY: refusal(Code.Unavailable, "STORE_BUSY"),
    OVERLOADED: refusal(Code.ResourceExhausted, "OVERLOADED"),
    "a connection that breaks": "cut",
  } as const;
  for (const [name, error] of Object.entries(passing)) {
    it(`goes on after ${name}, with the same request_id`, async () => {
      const { server, ids } = await flaky(error, error);
      await using _server = server;
      await using client = server.connect();
      const { run } = await client.runs.createRun(newRun);
      assert.equal(run?.id, "run");
      assert.equal(ids.length, 3);
      assert.equal(new Set(ids).size, 1);
      assert.match(ids[0] ?? "", /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-/);
    });
  }

  const lasting = {
    "RESOURCE_EXHAUSTED without a reason": new ConnectError("too large", Code.ResourceExhausted),
    "a refusal": refusal(Code.InvalidArgument, "INVALID_FIELD"),
    "INTERNAL / INTERNAL": refusal(Code.Internal, "INTERNAL"),
    "ABORTED / REVISION_MISMATCH": refusal(Code.Aborted, "REVISION_MISMATCH"),
    UNIMPLEMENTED: new ConnectError("no such thing", Code.Unimplemented),
  };
  for (const [name, error] of Object.entries(lasting)) {
    it(`stops at ${name}`, async () => {
      const { server, ids } = await flaky(error);
      await using _server = server;
      await using client = server.connect();
      assert.equal((await errorOf(client.runs.createRun(newRun))).code, error.code);
      assert.equal(ids.length, 1);
    });
  }

  it("comes back no sooner than RetryInfo says", async () => {
    const retryDelayMs = 300;
    const { server, times } = await flaky(refusal(Code.ResourceExhausted, "OVERLOADED", { retryDelayMs }));
    await using _server = server;
    await using client = server.connect();
    await client.runs.createRun(newRun);
    const [first = 0, second = 0] = times;
    assert.ok(second - first >= retryDelayMs - 1, `${second - first} ms`);
  });

  it("finds a server that comes only later", async () => {
    const { port } = await freed();
    const gone = await errorOf(connect(`127.0.0.1:${port}`, { deadlineMs: 100 }).runs.createRun(newRun));
    assert.equal(gone.code, Code.Unavailable);
    await using client = connect(`127.0.0.1:${port}`);
    const answer = client.runs.createRun(newRun);
    await using _server = await FakeServer.start(
      (router) => router.service(RunService, { createRun: () => ({ run: { id: "late" } }) }),
      { host: "127.0.0.1", port },
    );
    assert.equal((await answer).run?.id, "late");
  });

  it("says UNAVAILABLE for every way in which a connection breaks", async () => {
    const { server } = await flaky(...Array<"cut">(100).fill("cut"));
    const client = server.connect({ deadlineMs: 100 });
    assert.equal((await errorOf(client.runs.createRun(newRun))).code, Code.Unavailable);
    await server[Symbol.asyncDispose]();
    assert.equal((await errorOf(client.runs.createRun(newRun))).code, Code.Unavailable);
    await client.close();
    await using noSocket = connect("unix:/nowhere/runhub.sock", { deadlineMs: 50 });
    assert.equal((await errorOf(noSocket.runs.createRun(newRun))).code, Code.Unavailable);
  });

  it("does not try what can't be encoded", async () => {
    const { server, ids } = await flaky();
    await using _server = server;
    await using client = server.connect();
    assert.equal((await errorOf(client.runs.listRuns({ pageSize: 2 ** 31 }))).code, Code.InvalidArgument);
    assert.equal(ids.length, 0);
  });
});

/** A port where nobody listens. */
async function freed(): Promise<{ port: number }> {
  await using server = await serveRuns({});
  return { port: server.port };
}

describe("request_id", () => {
  it("is the caller's own, if it has one", async () => {
    const { server, ids } = await flaky(new ConnectError("away", Code.Unavailable));
    await using _server = server;
    await using client = server.connect();
    await client.runs.createRun({ ...newRun, requestId: "mine" });
    assert.deepEqual(ids, ["mine", "mine"]);
  });

  it("is another one for each call, also with the same message, which stays as it is", async () => {
    const { server, ids } = await flaky();
    await using _server = server;
    await using client = server.connect();
    const request = create(CreateRunRequestSchema, newRun);
    await client.runs.createRun(request);
    await client.runs.createRun(request);
    assert.equal(new Set(ids).size, 2);
    assert.equal(request.requestId, "");
  });

  it("is on every mutating request but Heartbeat", () => {
    assert.equal("requestId" in create(HeartbeatRequestSchema), false);
    assert.equal("requestId" in create(CreateRunRequestSchema), true);
  });
});

describe("the deadline", () => {
  it("is over all tries, and says what the last one met", async () => {
    const ids: string[] = [];
    await using server = await serveRuns({
      createRun({ requestId }) {
        ids.push(requestId);
        throw new ConnectError("away", Code.Unavailable);
      },
    });
    await using client = server.connect({ deadlineMs: 200 });
    const begin = performance.now();
    const error = await errorOf(client.runs.createRun(newRun));
    const took = performance.now() - begin;
    assert.equal(error.code, Code.Unavailable);
    assert.ok(took >= 195 && took < 2_000, `${took} ms`);
    assert.ok(ids.length > 2, `${ids.length} tries`);
  });

  it("ends a try that hangs, on the server too", async () => {
    const ended = new Gate();
    await using server = await serveRuns({
      async createRun(_, { signal }) {
        signal.addEventListener("abort", () => ended.resolve());
        return await never(signal);
      },
    });
    await using client = server.connect({ deadlineMs: 50 });
    assert.equal((await errorOf(client.runs.createRun(newRun))).code, Code.DeadlineExceeded);
    await ended.opened;
  });

  const held: Tasks = {
    async claimTask(_, { signal }) {
      await Promise.race([never(signal), new Promise((resolve) => setTimeout(resolve, 300))]);
      return {};
    },
  };

  it("begins after the request's wait", async () => {
    await using server = await serveTasks(held);
    await using client = server.connect({ deadlineMs: 200 });
    await client.tasks.claimTask({ agentId: "me", wait: seconds(0.3) });
    assert.equal((await errorOf(client.tasks.claimTask({ agentId: "me" }))).code, Code.DeadlineExceeded);
  });

  it("is the caller's own timeoutMs, if it has one", async () => {
    await using server = await serveTasks(held);
    await using client = server.connect({ deadlineMs: 10 });
    await client.tasks.claimTask({ agentId: "me" }, { timeoutMs: 5_000 });
    const error = await errorOf(client.tasks.claimTask({ agentId: "me", wait: seconds(9) }, { timeoutMs: 50 }));
    assert.equal(error.code, Code.DeadlineExceeded);
  });

  it("of a further try is for the rest of the request's wait", async () => {
    const asked: { id: string; waitMs: number }[] = [];
    await using server = await serveTasks({
      claimTask({ requestId, wait }) {
        asked.push({ id: requestId, waitMs: wait === undefined ? 0 : durationMs(wait) });
        if (asked.length < 3) {
          throw new ConnectError("away", Code.Unavailable);
        }
        return {};
      },
    });
    await using client = server.connect();
    await client.tasks.claimTask({ agentId: "me", wait: seconds(60) });
    const [first = 0, second = 0, third = 0] = asked.map(({ waitMs }) => waitMs);
    assert.ok(first === 60_000 && second < first && third < second && third > 50_000, `${first}, ${second}, ${third}`);
    assert.equal(new Set(asked.map(({ id }) => id)).size, 1);
  });

  it("is not shortened by a wait that the server refuses", async () => {
    await using server = await serveTasks({
      claimTask: () => Promise.reject(refusal(Code.InvalidArgument, "INVALID_FIELD")),
    });
    await using client = server.connect({ deadlineMs: 10_000 });
    const refused = await errorOf(client.tasks.claimTask({ agentId: "me", wait: seconds(-60) }));
    assert.equal(refused.reason, "INVALID_FIELD");
  });
});

describe("a caller's signal", () => {
  it("ends a call that waits for its answer", async () => {
    const begun = new Gate();
    await using server = await serveRuns({
      async createRun(_, { signal }) {
        begun.resolve();
        return await never(signal);
      },
    });
    await using client = server.connect();
    const stop = new AbortController();
    const error = errorOf(client.runs.createRun(newRun, { signal: stop.signal }));
    await begun.opened;
    stop.abort(new Error("enough"));
    assert.equal((await error).code, Code.Canceled);
    assert.equal(((await error).cause as Error).message, "enough");
  });

  it("ends the pause between tries", async () => {
    const stop = new AbortController();
    await using server = await serveRuns({
      createRun() {
        setImmediate(() => stop.abort());
        throw refusal(Code.ResourceExhausted, "OVERLOADED", { retryDelayMs: 60_000 });
      },
    });
    await using client = server.connect({ deadlineMs: 120_000 });
    assert.equal((await errorOf(client.runs.createRun(newRun, { signal: stop.signal }))).code, Code.Canceled);
  });

  it("ends a call before it begins", async () => {
    const { server, ids } = await flaky();
    await using _server = server;
    await using client = server.connect();
    const error = await errorOf(client.runs.createRun(newRun, { signal: AbortSignal.abort() }));
    assert.equal(error.code, Code.Canceled);
    assert.equal(ids.length, 0);
  });
});

describe("an error", () => {
  it("carries what the server says", async () => {
    const fields = [{ field: "goal", description: "it is blank" }];
    const metadata = { verdict: "APPROVED" };
    const { server } = await flaky(
      refusal(Code.FailedPrecondition, "ALREADY_DECIDED", { metadata, fields, retryDelayMs: 250 }),
    );
    await using _server = server;
    await using client = server.connect();
    const error = await errorOf(client.runs.createRun(newRun));
    assert.equal(error.reason, "ALREADY_DECIDED");
    assert.equal(error.code, Code.FailedPrecondition);
    assert.equal(error.message, "ALREADY_DECIDED: no");
    assert.deepEqual(error.metadata, metadata);
    assert.deepEqual(error.fields, fields);
    assert.equal(error.retryDelayMs, 250);
    assert.equal(error.isPassing, false);
  });

  it("keeps a reason that is not known yet", async () => {
    const { server } = await flaky(refusal(Code.FailedPrecondition, "MOON_FULL"));
    await using _server = server;
    await using client = server.connect();
    assert.equal((await errorOf(client.runs.createRun(newRun))).reason, "MOON_FULL");
  });

  it("has no reason when it is somebody else's", async () => {
    const { server } = await flaky(refusal(Code.NotFound, "ROUTE_NOT_FOUND", { domain: "a.proxy" }));
    await using _server = server;
    await using client = server.connect();
    const error = await errorOf(client.runs.createRun(newRun));
    assert.equal(error.reason, undefined);
    assert.equal(error.code, Code.NotFound);
  });

  it("is given for a stream, too, at its begin and later", async () => {
    await using server = await FakeServer.start((router) =>
      router.service(EventService, {
        async *subscribeEvents({ runId }) {
          if (runId !== "") {
            yield {};
          }
          throw refusal(Code.NotFound, "RUN_NOT_FOUND");
        },
      }),
    );
    await using client = server.connect();
    const refused = client.events.subscribeEvents({})[Symbol.asyncIterator]();
    assert.equal((await errorOf(refused.next())).reason, "RUN_NOT_FOUND");
    const deleted = client.events.subscribeEvents({ runId: "run" })[Symbol.asyncIterator]();
    await deleted.next();
    assert.equal((await errorOf(deleted.next())).reason, "RUN_NOT_FOUND");
  });
});

describe("a client", () => {
  it("makes many calls at the same time, over one connection", async () => {
    const warnings: Error[] = [];
    const keep = (warning: Error) => warnings.push(warning);
    process.on("warning", keep);
    const { server, ids } = await flaky();
    await using _server = server;
    await using client = server.connect();
    await Promise.all(Array.from({ length: 100 }, () => client.runs.createRun(newRun)));
    assert.equal(new Set(ids).size, 100);
    assert.equal(server.sockets.size, 1);
    // Warnings come in a later tick.
    await new Promise(setImmediate);
    process.off("warning", keep);
    assert.deepEqual(warnings, []);
  });
});

describe("close", () => {
  it("calls off what goes on, and leaves no connection", async () => {
    const begun = new Gate();
    await using server = await serveRuns({
      async createRun(_, { signal }) {
        begun.resolve();
        return await never(signal);
      },
    });
    const client = server.connect();
    const error = errorOf(client.runs.createRun(newRun));
    await begun.opened;
    const [socket] = server.sockets;
    const closed = once(socket ?? assert.fail("no connection"), "close");
    await client.close();
    assert.equal((await error).code, Code.Canceled);
    await closed;
    assert.equal((await errorOf(client.runs.createRun(newRun))).code, Code.Canceled);
  });
});

describe("a large answer", () => {
  it("may have up to 16 MiB", async () => {
    const answer = (mib: number) => ({ version: "x".repeat(mib * 1024 * 1024) });
    let mib = 15;
    await using server = await FakeServer.start((router) =>
      router.service(ServerService, { getServerInfo: () => answer(mib) }),
    );
    await using client = server.connect();
    assert.equal((await client.server.getServerInfo({})).version.length, 15 * 1024 * 1024);
    mib = 17;
    const error = await errorOf(client.server.getServerInfo({}));
    assert.equal(error.code, Code.ResourceExhausted);
    assert.equal(error.reason, undefined);
  });
});
