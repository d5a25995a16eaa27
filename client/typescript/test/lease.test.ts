import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";

import { json, LeaseLost, RunhubError, seconds } from "../src/index.js";
import { type Beat, ClaimSchema, LeaseState, TaskService } from "../src/v1.js";
import { Deferred, FakeServer, newRefusal, throwWhenAborted } from "./fake.js";

type HeartbeatHandler = (beat: Beat, context: HandlerContext) => LeaseState | Promise<LeaseState>;

/** Returns a claim with a lease duration of `leaseSeconds` seconds. */
const claimOf = (leaseSeconds: number, leaseToken = "token") =>
  create(ClaimSchema, { leaseToken, leaseDuration: seconds(leaseSeconds) });

/** Starts a server that calls `answer` for each heartbeat and sends the returned state. */
function serveHeartbeats(answer: HeartbeatHandler): Promise<FakeServer> {
  return FakeServer.start((router) =>
    router.service(TaskService, {
      async heartbeat({ beats }, context) {
        const [beat] = beats;
        assert.ok(beat);
        return { results: [{ state: await answer(beat, context) }] };
      },
    }),
  );
}

/** Returns the LeaseLost with which `work` rejects. Fails the test if `work` succeeds or rejects with another error. */
async function catchLeaseLost(work: Promise<unknown>): Promise<LeaseLost> {
  const error = await work.then(
    () => undefined,
    (error) => error,
  );
  assert.ok(error instanceof LeaseLost, `expected LeaseLost, got ${error}`);
  return error;
}

/** Waits until the signal is aborted, like a function `work` that ends only when the lease is lost. */
const endless = (signal: AbortSignal) => once(signal, "abort");

describe("the lease keeper", () => {
  it("sends the first heartbeat at once and the next one before the lease expires", async () => {
    const times: number[] = [];
    const second = new Deferred();
    await using server = await serveHeartbeats(({ leaseToken }) => {
      assert.equal(leaseToken, "token");
      times.push(performance.now());
      if (times.length === 2) {
        second.resolve();
      }
      return LeaseState.EXTENDED;
    });
    await using client = server.connect();
    const begin = performance.now();
    await using _lease = client.keepLease(claimOf(6));
    await second.promise;
    const [first = 0, next = 0] = times;
    assert.ok(first - begin < 2_000, `${first - begin} ms until the first heartbeat`);
    assert.ok(next - first > 1_000 && next - first < 6_000, `${next - first} ms between heartbeats`);
  });

  it("sends no heartbeat after it is stopped", async () => {
    const tokens: string[] = [];
    let threeHeartbeats = new Deferred();
    await using server = await serveHeartbeats(({ leaseToken }) => {
      tokens.push(leaseToken);
      if (tokens.filter((token) => token === leaseToken).length % 3 === 0) {
        threeHeartbeats.resolve();
      }
      return LeaseState.EXTENDED;
    });
    await using client = server.connect();
    const first = client.keepLease(claimOf(1, "first"));
    await threeHeartbeats.promise;
    await first.stop();
    threeHeartbeats = new Deferred();
    // If the first keeper were still running, the first keeper would send heartbeats while the second keeper sends
    // three heartbeats.
    await using _other = client.keepLease(claimOf(1, "other"));
    await threeHeartbeats.promise;
    assert.deepEqual(tokens, [...Array(3).fill("first"), ...Array(3).fill("other")]);
  });

  it("ends the function if a heartbeat is answered LOST", async () => {
    await using server = await serveHeartbeats(() => LeaseState.LOST);
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(60));
    let seen: unknown;
    const lost = await catchLeaseLost(
      lease.run(async (signal) => {
        await endless(signal);
        seen = signal.reason;
      }),
    );
    assert.equal(lost.because, "taken");
    assert.equal(seen, lost);
    assert.equal(lease.state, LeaseState.LOST);
    await assert.rejects(lease.cancelRequested(), LeaseLost);
    await assert.rejects(
      lease.run(() => assert.fail("`run` must not call the function after the loss")),
      LeaseLost,
    );
  });

  it("ends the function if no heartbeat is answered for a lease duration", async () => {
    await using server = await serveHeartbeats((_, { signal }) => throwWhenAborted(signal));
    await using client = server.connect();
    const begin = performance.now();
    await using lease = client.keepLease(claimOf(1));
    const lost = await catchLeaseLost(lease.run(endless));
    const took = performance.now() - begin;
    assert.equal(lost.because, "unanswered");
    assert.ok(took >= 995 && took < 20_000, `${took} ms`);
  });

  it("ends the function if the server is down for a lease duration", async () => {
    let heartbeats = 0;
    await using server = await serveHeartbeats(() => {
      heartbeats += 1;
      throw new ConnectError("down", Code.Unavailable);
    });
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(2));
    const lost = await catchLeaseLost(lease.run(endless));
    assert.equal(lost.because, "unanswered");
    assert.ok(lost.cause instanceof RunhubError && lost.cause.code === Code.Unavailable);
    assert.ok(heartbeats > 2, `${heartbeats} heartbeats`);
  });

  it("keeps the lease if a proxy breaks heartbeats or the store is full", async () => {
    const breaks = [
      new ConnectError("a proxy has reset the stream", Code.Internal),
      new ConnectError("a proxy has sent an HTML page", Code.Unknown),
      new ConnectError("a proxy has cancelled the stream", Code.Canceled),
      newRefusal(Code.Unavailable, "STORE_FULL"),
    ];
    const answered = new Deferred();
    await using server = await serveHeartbeats(() => {
      const error = breaks.shift();
      if (error !== undefined) {
        throw error;
      }
      answered.resolve();
      return LeaseState.EXTENDED;
    });
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(60));
    await lease.run(() => answered.promise);
  });

  it("retries a hanging heartbeat after a third of the lease", async () => {
    let heartbeats = 0;
    const answered = new Deferred();
    await using server = await serveHeartbeats(async (_, { signal }) => {
      heartbeats += 1;
      if (heartbeats === 1) {
        return await throwWhenAborted(signal);
      }
      answered.resolve();
      return LeaseState.EXTENDED;
    });
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(3));
    await lease.run(() => answered.promise);
  });

  it("ends the function if the server refuses a heartbeat", async () => {
    let heartbeats = 0;
    await using server = await serveHeartbeats(() => {
      heartbeats += 1;
      throw newRefusal(Code.InvalidArgument, "INVALID_FIELD");
    });
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(60));
    const lost = await catchLeaseLost(lease.run(endless));
    assert.equal(lost.because, "refused");
    assert.ok(lost.cause instanceof RunhubError && lost.cause.reason === "INVALID_FIELD");
    assert.equal(heartbeats, 1);
  });

  it("sends the latest progress until it is answered", async () => {
    const progresses: unknown[] = [];
    const done = new Deferred();
    await using server = await serveHeartbeats(({ progress }) => {
      progresses.push(json(progress));
      const sent = progresses.filter((one) => one !== undefined).length;
      if (progress !== undefined && sent === 1) {
        throw new ConnectError("down", Code.Unavailable);
      }
      if (progress === undefined && sent === 2) {
        done.resolve();
      }
      return LeaseState.EXTENDED;
    });
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(1));
    lease.progress({ percent: 10 });
    lease.progress({ percent: 50 });
    await lease.run(() => done.promise);
    assert.deepEqual(progresses, [undefined, { percent: 50 }, { percent: 50 }, undefined]);
  });

  it("reports requests to stop without ending the function", async () => {
    const states = [LeaseState.PAUSE_REQUESTED, LeaseState.EXTENDED, LeaseState.CANCEL_REQUESTED];
    await using server = await serveHeartbeats(() => states.shift() ?? LeaseState.CANCEL_REQUESTED);
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(1));
    assert.equal(lease.state, LeaseState.EXTENDED);
    const seen = await lease.run(async (signal) => {
      await lease.pauseRequested();
      assert.equal(lease.state, LeaseState.PAUSE_REQUESTED);
      await lease.resumed();
      await lease.cancelRequested();
      return signal.aborted;
    });
    assert.equal(seen, false);
    assert.equal(lease.state, LeaseState.CANCEL_REQUESTED);
  });

  it("returns the result and throws the error of the function unchanged", async () => {
    await using server = await serveHeartbeats(() => LeaseState.EXTENDED);
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(60));
    assert.equal(await lease.run(() => 7), 7);
    const own = new Error("the disk /data is full: delete unused files");
    await assert.rejects(
      lease.run(() => Promise.reject(own)),
      (error) => error === own,
    );
    await assert.rejects(
      lease.run(() => {
        throw own;
      }),
      (error) => error === own,
    );
    assert.equal(lease.signal.aborted, false);
  });

  it("does not lose the lease if the caller cancels a call of the function", async () => {
    await using server = await serveHeartbeats(() => LeaseState.EXTENDED);
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(60));
    const stop = AbortSignal.timeout(10);
    const error = await lease.run(() => client.runs.listRuns({}, { signal: stop })).catch((error) => error);
    assert.ok(error instanceof RunhubError);
    assert.equal(lease.signal.aborted, false);
  });

  it("does not lose the lease if it is stopped during a heartbeat", async () => {
    const begun = new Deferred();
    await using server = await serveHeartbeats((_, { signal }) => {
      begun.resolve();
      return throwWhenAborted(signal);
    });
    await using client = server.connect();
    const lease = client.keepLease(claimOf(60));
    await begun.promise;
    await lease.stop();
    assert.equal(lease.signal.aborted, false);
  });
});
