import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { Code, connect, LeaseLost, type RunhubError, seconds } from "../src/index.js";
import { ClaimSchema, EventService, LeaseState, ServerService, TaskService } from "../src/v1.js";
import {
  catchError,
  Deferred,
  FakeServer,
  newRefusal,
  newRun,
  serveRuns,
  serveRunsAfterErrors,
  throwWhenAborted,
  until,
} from "./fake.js";

/** Returns an error with a retry delay of 60 s. */
const later = () => newRefusal(Code.ResourceExhausted, "OVERLOADED", { retryDelayMs: 60_000 });

function assertClosed(error: RunhubError): void {
  assert.equal(error.code, Code.Canceled);
  assert.equal(error.message, "the client is closed: create a new client");
}

describe("close", () => {
  it("ends running calls and closes the connection", async () => {
    const begun = new Deferred();
    await using server = await serveRuns({
      async createRun(_, { signal }) {
        begun.resolve();
        return await throwWhenAborted(signal);
      },
    });
    const client = server.connect();
    const error = catchError(client.runs.createRun(newRun));
    await begun.promise;
    const [socket] = server.sockets;
    const closed = once(socket ?? assert.fail("the server has no connection"), "close");
    await client.close();
    assertClosed(await error);
    await closed;
    assertClosed(await catchError(client.runs.createRun(newRun)));
  });

  it("closes all connections, and later calls open no connection", async () => {
    const stream = { message: { case: "caughtUp", value: {} } } as const;
    let waiting = 0;
    await using server = await FakeServer.start((router) => {
      router.service(ServerService, { getServerInfo: () => ({}) });
      router.service(EventService, {
        async *subscribeEvents(_, { signal }) {
          yield stream;
          await throwWhenAborted(signal);
        },
      });
      router.service(TaskService, {
        async claimTask(_, { signal }) {
          waiting += 1;
          return await throwWhenAborted(signal);
        },
      });
    });
    await using client = server.connect();
    const claim = () => catchError(client.tasks.claimTask({ agentId: "me", wait: seconds(60) }));
    const read = () => client.events.subscribeEvents({})[Symbol.asyncIterator]().next();
    await client.server.getServerInfo({});
    await Promise.all(Array.from({ length: 100 }, read));
    const claims = Array.from({ length: 150 }, claim);
    await until(() => waiting === 150);
    assert.equal(server.sockets.size, 4);
    await client.close();
    await until(() => server.sockets.size === 0);
    (await Promise.all(claims)).forEach(assertClosed);
    assertClosed(await claim());
    assertClosed(await catchError(read()));
    assertClosed(await catchError(client.server.getServerInfo({})));
    // If a later call of the closed client had opened a connection, the server would have accepted it before this one.
    await using another = server.connect();
    await another.server.getServerInfo({});
    assert.equal(server.accepted, 5);
  });

  it("ends later calls without a request, even if the client is closed twice", async () => {
    const { server, ids } = await serveRunsAfterErrors();
    await using _server = server;
    const client = server.connect();
    await client.close();
    await client.close();
    assertClosed(await catchError(client.runs.createRun(newRun)));
    assertClosed(await catchError(client.subscribe()[Symbol.asyncIterator]().next()));
    assert.equal(ids.length, 0);
  });

  it("ends a call that is still connecting", async () => {
    // RFC 5737 reserves the address 192.0.2.1 for documentation, so no server has the address.
    const client = connect("192.0.2.1:1");
    const error = catchError(client.runs.createRun(newRun));
    await new Promise(setImmediate);
    await client.close();
    assertClosed(await error);
  });

  it("ends the pause before a retry of a call", async () => {
    const begun = new Deferred();
    await using server = await serveRuns({
      createRun() {
        begun.resolve();
        throw later();
      },
    });
    const client = server.connect({ deadlineMs: 120_000 });
    const error = catchError(client.runs.createRun(newRun));
    await begun.promise;
    // Give the client time to receive the error and to start the pause before the retry.
    await new Promise((resolve) => setTimeout(resolve, 50));
    await client.close();
    assertClosed(await error);
  });

  it("ends the pause before a retry of a subscription", async () => {
    const begun = new Deferred();
    await using server = await FakeServer.start((router) => {
      router.service(ServerService, { getServerInfo: () => ({ logId: "log" }) });
      router.service(EventService, {
        // biome-ignore lint/correctness/useYield: the stream fails before its first message
        async *subscribeEvents() {
          begun.resolve();
          throw later();
        },
      });
    });
    const client = server.connect();
    const error = catchError(client.subscribe()[Symbol.asyncIterator]().next());
    await begun.promise;
    await new Promise((resolve) => setTimeout(resolve, 50));
    await client.close();
    assertClosed(await error);
  });

  it("loses leases as unanswered at once", async () => {
    const answered = new Deferred();
    await using server = await FakeServer.start((router) =>
      router.service(TaskService, {
        heartbeat() {
          answered.resolve();
          return { results: [{ state: LeaseState.EXTENDED }] };
        },
      }),
    );
    await using client = server.connect();
    const claim = create(ClaimSchema, { leaseToken: "token", leaseDuration: seconds(3_600) });
    await using lease = client.keepLease(claim);
    const work = lease.run((signal) => once(signal, "abort"));
    await answered.promise;
    await client.close();
    await assert.rejects(work, (error) => error instanceof LeaseLost && error.because === "unanswered");
    await using another = client.keepLease(claim);
    await assert.rejects(another.cancelRequested(), (error) => {
      assert.ok(error instanceof LeaseLost && error.because === "unanswered");
      assertClosed(error.cause as RunhubError);
      return true;
    });
  });
});
