import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";

import { json, LeaseLost, RunhubError, seconds } from "../src/index.js";
import { type Beat, ClaimSchema, LeaseState, TaskService } from "../src/v1.js";
import { FakeServer, Gate, never, refusal } from "./fake.js";

type Answer = (beat: Beat, context: HandlerContext) => LeaseState | Promise<LeaseState>;

const claimOf = (leaseSeconds: number, leaseToken = "token") =>
  create(ClaimSchema, { leaseToken, leaseDuration: seconds(leaseSeconds) });

/** A server that answers each beat so. */
function beaten(answer: Answer): Promise<FakeServer> {
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

/** Why the work was lost. */
async function lostOf(work: Promise<unknown>): Promise<LeaseLost> {
  const error = await work.then(
    () => undefined,
    (error) => error,
  );
  assert.ok(error instanceof LeaseLost, `the lease was not lost, but: ${error}`);
  return error;
}

/** Work that ends only by being cancelled. */
const endless = (signal: AbortSignal) => once(signal, "abort");

describe("the lease keeper", () => {
  it("beats at once, then again before the lease is over", async () => {
    const times: number[] = [];
    const second = new Gate();
    await using server = await beaten(({ leaseToken }) => {
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
    await second.opened;
    const [first = 0, next = 0] = times;
    assert.ok(first - begin < 2_000, `${first - begin} ms until the first beat`);
    assert.ok(next - first > 1_000 && next - first < 6_000, `${next - first} ms between beats`);
  });

  it("does not beat after its end", async () => {
    const tokens: string[] = [];
    let beaten3 = new Gate();
    await using server = await beaten(({ leaseToken }) => {
      tokens.push(leaseToken);
      if (tokens.filter((token) => token === leaseToken).length % 3 === 0) {
        beaten3.resolve();
      }
      return LeaseState.EXTENDED;
    });
    await using client = server.connect();
    const first = client.keepLease(claimOf(1, "first"));
    await beaten3.opened;
    await first.stop();
    beaten3 = new Gate();
    // While another one beats so often, it would have.
    await using _other = client.keepLease(claimOf(1, "other"));
    await beaten3.opened;
    assert.deepEqual(tokens, [...Array(3).fill("first"), ...Array(3).fill("other")]);
  });

  it("ends the work when a beat is answered LOST", async () => {
    await using server = await beaten(() => LeaseState.LOST);
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(60));
    let seen: unknown;
    const lost = await lostOf(
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
      lease.run(() => assert.fail("what is lost already is not begun")),
      LeaseLost,
    );
  });

  it("ends the work when no beat was answered for as long as the lease lasts", async () => {
    await using server = await beaten((_, { signal }) => never(signal));
    await using client = server.connect();
    const begin = performance.now();
    await using lease = client.keepLease(claimOf(1));
    const lost = await lostOf(lease.run(endless));
    const took = performance.now() - begin;
    assert.equal(lost.because, "unanswered");
    assert.ok(took >= 995 && took < 20_000, `${took} ms`);
  });

  it("ends the work when the server is away for as long as the lease lasts", async () => {
    let beats = 0;
    await using server = await beaten(() => {
      beats += 1;
      throw new ConnectError("away", Code.Unavailable);
    });
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(2));
    const lost = await lostOf(lease.run(endless));
    assert.equal(lost.because, "unanswered");
    assert.ok(lost.cause instanceof RunhubError && lost.cause.code === Code.Unavailable);
    assert.ok(beats > 2, `${beats} beats`);
  });

  it("tries a beat that hangs again after a third of the lease", async () => {
    let beats = 0;
    const answered = new Gate();
    await using server = await beaten(async (_, { signal }) => {
      beats += 1;
      if (beats === 1) {
        return await never(signal);
      }
      answered.resolve();
      return LeaseState.EXTENDED;
    });
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(3));
    await lease.run(() => answered.opened);
  });

  it("ends the work when a beat is refused for good", async () => {
    let beats = 0;
    await using server = await beaten(() => {
      beats += 1;
      throw refusal(Code.InvalidArgument, "INVALID_FIELD");
    });
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(60));
    const lost = await lostOf(lease.run(endless));
    assert.equal(lost.because, "refused");
    assert.ok(lost.cause instanceof RunhubError && lost.cause.reason === "INVALID_FIELD");
    assert.equal(beats, 1);
  });

  it("sends a progress until it is answered, the latest one, and once", async () => {
    const progresses: unknown[] = [];
    const done = new Gate();
    await using server = await beaten(({ progress }) => {
      progresses.push(json(progress));
      const brought = progresses.filter((one) => one !== undefined).length;
      if (progress !== undefined && brought === 1) {
        throw new ConnectError("away", Code.Unavailable);
      }
      if (progress === undefined && brought === 2) {
        done.resolve();
      }
      return LeaseState.EXTENDED;
    });
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(1));
    lease.progress({ percent: 10 });
    lease.progress({ percent: 50 });
    await lease.run(() => done.opened);
    assert.deepEqual(progresses, [undefined, { percent: 50 }, { percent: 50 }, undefined]);
  });

  it("tells of requests to stop, without ending the work", async () => {
    const states = [LeaseState.PAUSE_REQUESTED, LeaseState.EXTENDED, LeaseState.CANCEL_REQUESTED];
    await using server = await beaten(() => states.shift() ?? LeaseState.CANCEL_REQUESTED);
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

  it("passes on what the work returns and throws, as it is", async () => {
    await using server = await beaten(() => LeaseState.EXTENDED);
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(60));
    assert.equal(await lease.run(() => 7), 7);
    const own = new Error("mine");
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

  it("does not take for lost what the caller itself called off", async () => {
    await using server = await beaten(() => LeaseState.EXTENDED);
    await using client = server.connect();
    await using lease = client.keepLease(claimOf(60));
    const stop = AbortSignal.timeout(10);
    const error = await lease.run(() => client.runs.listRuns({}, { signal: stop })).catch((error) => error);
    assert.ok(error instanceof RunhubError);
    assert.equal(lease.signal.aborted, false);
  });

  it("is not lost when it is stopped while a beat is on its way", async () => {
    const begun = new Gate();
    await using server = await beaten((_, { signal }) => {
      begun.resolve();
      return never(signal);
    });
    await using client = server.connect();
    const lease = client.keepLease(claimOf(60));
    await begun.opened;
    await lease.stop();
    assert.equal(lease.signal.aborted, false);
  });
});
