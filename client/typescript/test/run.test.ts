import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { LeaseLost, RunhubError, seconds } from "../src/index.js";
import { ClaimSchema, LeaseState, TaskService } from "../src/v1.js";
import { Deferred, FakeServer, throwWhenAborted } from "./fake.js";

type LeaseCallback = (signal: AbortSignal, lose: () => void) => unknown;

/**
 * Runs the function `work` and returns the LeaseLost that `run` throws. When `work` calls `lose`, the lease is lost.
 */
async function runUntilLeaseLost(work: LeaseCallback): Promise<LeaseLost> {
  const taken = new Deferred();
  await using server = await FakeServer.start((router) =>
    router.service(TaskService, {
      async heartbeat() {
        await taken.promise;
        return { results: [{ state: LeaseState.LOST }] };
      },
    }),
  );
  await using client = server.connect();
  await using lease = client.keepLease(create(ClaimSchema, { leaseToken: "token", leaseDuration: seconds(60) }));
  const lost = await lease.run((signal) => work(signal, taken.resolve)).catch((error) => error);
  assert.ok(lost instanceof LeaseLost, `expected LeaseLost, got ${lost}`);
  assert.equal(lost.because, "taken");
  return lost;
}

describe("a loss", () => {
  const ends: Record<string, (signal: AbortSignal) => unknown> = {
    "without an error": (signal) => throwWhenAborted(signal).catch(() => "done"),
    "with the signal's reason": throwWhenAborted,
    "with Node's AbortError": (signal) => sleep(60_000, undefined, { signal }),
    "with an error caused by the reason": (signal) =>
      throwWhenAborted(signal).catch((cause) => {
        throw new Error("stopped", { cause });
      }),
  };
  for (const [how, end] of Object.entries(ends)) {
    it(`has no workError if the function ends ${how}`, async () => {
      const lost = await runUntilLeaseLost((signal, lose) => {
        lose();
        return end(signal);
      });
      assert.equal(lost.workError, undefined);
    });
  }

  it("has the error of the function's cleanup as workError", async () => {
    const own = new Error("the disk /data is full: delete unused files");
    const lost = await runUntilLeaseLost(async (signal, lose) => {
      lose();
      try {
        await throwWhenAborted(signal);
      } finally {
        await sleep(20);
        // biome-ignore lint/correctness/noUnsafeFinally: this test needs an error of the cleanup
        throw own;
      }
    });
    assert.equal(lost.workError, own);
  });

  it("does not wait for a function that ignores the signal", async () => {
    const forever = new Deferred();
    const lost = await runUntilLeaseLost((_, lose) => {
      lose();
      return forever.promise;
    });
    assert.equal(lost.workError, undefined);
  });
});

describe("stopping a keeper", () => {
  for (const wait of ["cancelRequested", "pauseRequested", "resumed"] as const) {
    it(`ends ${wait}`, async () => {
      const state = wait === "resumed" ? LeaseState.PAUSE_REQUESTED : LeaseState.EXTENDED;
      await using server = await FakeServer.start((router) =>
        router.service(TaskService, { heartbeat: () => ({ results: [{ state }] }) }),
      );
      await using client = server.connect();
      const lease = client.keepLease(create(ClaimSchema, { leaseToken: "token", leaseDuration: seconds(60) }));
      if (wait === "resumed") {
        await lease.pauseRequested();
      }
      const waiting = assert.rejects(lease[wait](), RunhubError);
      // When the keeper is stopped, the keeper also rejects this unused promise, and Node must not report an unhandled
      // rejection.
      void lease[wait]();
      await lease.stop();
      await waiting;
      await assert.rejects(lease[wait](), RunhubError);
      assert.equal(lease.signal.aborted, false);
    });
  }
});
