import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { Code, connect, LeaseLost, type RunhubError, seconds } from "../src/index.js";
import { ClaimSchema, EventService, LeaseState, ServerService, TaskService } from "../src/v1.js";
import { errorOf, FakeServer, flaky, Gate, never, newRun, refusal, serveRuns } from "./fake.js";

/** Returns an error with a retry delay of a minute. */
const later = () => refusal(Code.ResourceExhausted, "OVERLOADED", { retryDelayMs: 60_000 });

function assertClosed(error: RunhubError): void {
  assert.equal(error.code, Code.Canceled);
  assert.equal(error.message, "the client is closed");
}

describe("close", () => {
  it("ends running calls and closes the connection", async () => {
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
    const closed = once(socket ?? assert.fail("the server has no connection"), "close");
    await client.close();
    assertClosed(await error);
    await closed;
    assertClosed(await errorOf(client.runs.createRun(newRun)));
  });

  it("ends later calls without a try, also when it is called twice", async () => {
    const { server, ids } = await flaky();
    await using _server = server;
    const client = server.connect();
    await client.close();
    await client.close();
    assertClosed(await errorOf(client.runs.createRun(newRun)));
    assertClosed(await errorOf(client.subscribe()[Symbol.asyncIterator]().next()));
    assert.equal(ids.length, 0);
  });

  it("ends a call that is still connecting", async () => {
    // No server has this address (RFC 5737).
    const client = connect("192.0.2.1:1");
    const error = errorOf(client.runs.createRun(newRun));
    await new Promise(setImmediate);
    await client.close();
    assertClosed(await error);
  });

  it("ends the pause between tries of a call", async () => {
    const begun = new Gate();
    await using server = await serveRuns({
      createRun() {
        begun.resolve();
        throw later();
      },
    });
    const client = server.connect({ deadlineMs: 120_000 });
    const error = errorOf(client.runs.createRun(newRun));
    await begun.opened;
    // Gives the client time to begin its pause.
    await new Promise((resolve) => setTimeout(resolve, 50));
    await client.close();
    assertClosed(await error);
  });

  it("ends the pause between tries of a subscription", async () => {
    const begun = new Gate();
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
    const error = errorOf(client.subscribe()[Symbol.asyncIterator]().next());
    await begun.opened;
    await new Promise((resolve) => setTimeout(resolve, 50));
    await client.close();
    assertClosed(await error);
  });

  it("loses leases as unanswered at once", async () => {
    const answered = new Gate();
    await using server = await FakeServer.start((router) =>
      router.service(TaskService, {
        heartbeat() {
          answered.resolve();
          return { results: [{ state: LeaseState.EXTENDED }] };
        },
      }),
    );
    const client = server.connect();
    const claim = create(ClaimSchema, { leaseToken: "token", leaseDuration: seconds(3_600) });
    await using lease = client.keepLease(claim);
    const work = lease.run((signal) => once(signal, "abort"));
    await answered.opened;
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
