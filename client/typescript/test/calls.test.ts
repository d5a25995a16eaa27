import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";

import { Code, connect } from "../src/index.js";
import { CreateRunRequestSchema, HeartbeatRequestSchema, RunService, ServerService } from "../src/v1.js";
import { catchError, FakeServer, newRefusal, newRun, serveRuns, serveRunsAfterErrors } from "./fake.js";

describe("a call", () => {
  const temporary = {
    "UNAVAILABLE without a reason": new ConnectError("down", Code.Unavailable),
    DRAINING: newRefusal(Code.Unavailable, "DRAINING"),
    STORE_BUSY: newRefusal(Code.Unavailable, "STORE_BUSY"),
    STORE_FULL: newRefusal(Code.Unavailable, "STORE_FULL"),
    "INTERNAL without a reason": new ConnectError("a proxy has reset the stream", Code.Internal),
    "UNKNOWN without a reason": new ConnectError("a proxy has sent an HTML page", Code.Unknown),
    "CANCELLED without a reason": new ConnectError("a proxy has cancelled the stream", Code.Canceled),
    OVERLOADED: newRefusal(Code.ResourceExhausted, "OVERLOADED"),
    "a broken connection": "cut",
  } as const;
  for (const [name, error] of Object.entries(temporary)) {
    it(`is retried after ${name} with the same request_id`, async () => {
      const { server, ids } = await serveRunsAfterErrors(error, error);
      await using _server = server;
      await using client = server.connect();
      const { run } = await client.runs.createRun(newRun);
      assert.equal(run?.id, "run");
      assert.equal(ids.length, 3);
      assert.equal(new Set(ids).size, 1);
      assert.match(ids[0] ?? "", /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-/);
    });
  }

  const permanent = {
    "RESOURCE_EXHAUSTED without a reason": new ConnectError(
      "the response to CreateRun exceeds 16 MiB: shorten the goal of the run",
      Code.ResourceExhausted,
    ),
    "INVALID_ARGUMENT / INVALID_FIELD": newRefusal(Code.InvalidArgument, "INVALID_FIELD"),
    "INTERNAL / INTERNAL": newRefusal(Code.Internal, "INTERNAL"),
    "ABORTED / REVISION_MISMATCH": newRefusal(Code.Aborted, "REVISION_MISMATCH"),
    UNIMPLEMENTED: new ConnectError("the server does not implement CreateRun: upgrade the server", Code.Unimplemented),
  };
  for (const [name, error] of Object.entries(permanent)) {
    it(`is not retried after ${name}`, async () => {
      const { server, ids } = await serveRunsAfterErrors(error);
      await using _server = server;
      await using client = server.connect();
      assert.equal((await catchError(client.runs.createRun(newRun))).code, error.code);
      assert.equal(ids.length, 1);
    });
  }

  it("waits at least the retry delay before the next retry", async () => {
    const retryDelayMs = 300;
    const overloaded = newRefusal(Code.ResourceExhausted, "OVERLOADED", { retryDelayMs });
    const { server, times } = await serveRunsAfterErrors(overloaded);
    await using _server = server;
    await using client = server.connect();
    await client.runs.createRun(newRun);
    const [first = 0, second = 0] = times;
    assert.ok(second - first >= retryDelayMs - 1, `${second - first} ms`);
  });

  it("finds a server that starts late", async () => {
    // The test uses a unix socket, because another process could take a TCP port before the server starts.
    const folder = await mkdtemp(join(tmpdir(), "runhub-"));
    const path = join(folder, "runhub.sock");
    {
      await using early = connect(`unix:${path}`, { deadlineMs: 1_000 });
      assert.equal((await catchError(early.runs.createRun(newRun))).code, Code.Unavailable);
      await using client = connect(`unix:${path}`);
      const answer = client.runs.createRun(newRun);
      await using _server = await FakeServer.start(
        (router) => router.service(RunService, { createRun: () => ({ run: { id: "late" } }) }),
        { path },
      );
      assert.equal((await answer).run?.id, "late");
    }
    await rm(folder, { recursive: true });
  });

  it("ends with UNAVAILABLE if every connection breaks", async () => {
    const { server } = await serveRunsAfterErrors(...Array<"cut">(1_000).fill("cut"));
    await using _server = server;
    await using client = server.connect({ deadlineMs: 1_000 });
    assert.equal((await catchError(client.runs.createRun(newRun))).code, Code.Unavailable);
  });

  it("ends with UNAVAILABLE if no server listens", async () => {
    await using port = await reservePort();
    await using refused = connect(`127.0.0.1:${port.number}`, { deadlineMs: 1_000 });
    assert.equal((await catchError(refused.runs.createRun(newRun))).code, Code.Unavailable);
    await using noSocket = connect("unix:/nowhere/runhub.sock", { deadlineMs: 1_000 });
    assert.equal((await catchError(noSocket.runs.createRun(newRun))).code, Code.Unavailable);
  });

  it("is not sent if its request can't be encoded", async () => {
    const { server, ids } = await serveRunsAfterErrors();
    await using _server = server;
    await using client = server.connect();
    assert.equal((await catchError(client.runs.listRuns({ pageSize: 2 ** 31 }))).code, Code.InvalidArgument);
    assert.equal(ids.length, 0);
  });
});

/** Returns a port on which no process can listen, because an open connection uses the port. */
async function reservePort() {
  const server = await serveRuns({});
  const socket = connectSocket(server.port, "127.0.0.1");
  await once(socket, "connect");
  return {
    number: socket.localPort ?? assert.fail("the socket is not connected"),
    async [Symbol.asyncDispose]() {
      socket.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
}

describe("request_id", () => {
  it("is the caller's own if the request has one", async () => {
    const { server, ids } = await serveRunsAfterErrors(new ConnectError("down", Code.Unavailable));
    await using _server = server;
    await using client = server.connect();
    await client.runs.createRun({ ...newRun, requestId: "mine" });
    assert.deepEqual(ids, ["mine", "mine"]);
  });

  it("differs between calls with the same message, which is not changed", async () => {
    const { server, ids } = await serveRunsAfterErrors();
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

describe("a client", () => {
  it("makes many calls at the same time on one connection", async () => {
    const warnings: Error[] = [];
    const keep = (warning: Error) => warnings.push(warning);
    process.on("warning", keep);
    const { server, ids } = await serveRunsAfterErrors();
    await using _server = server;
    await using client = server.connect();
    await Promise.all(Array.from({ length: 100 }, () => client.runs.createRun(newRun)));
    assert.equal(new Set(ids).size, 100);
    assert.equal(server.sockets.size, 1);
    // Node emits warnings in a later tick, so wait for one tick before the check.
    await new Promise(setImmediate);
    process.off("warning", keep);
    assert.deepEqual(warnings, []);
  });
});

describe("an answer", () => {
  it("may have 16 MiB", async () => {
    const answer = (mib: number) => ({ version: "x".repeat(mib * 1024 * 1024) });
    let mib = 15;
    await using server = await FakeServer.start((router) =>
      router.service(ServerService, { getServerInfo: () => answer(mib) }),
    );
    await using client = server.connect();
    assert.equal((await client.server.getServerInfo({})).version.length, 15 * 1024 * 1024);
    mib = 17;
    const error = await catchError(client.server.getServerInfo({}));
    assert.equal(error.code, Code.ResourceExhausted);
    assert.equal(error.reason, undefined);
  });
});
