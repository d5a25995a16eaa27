import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { LeaseLost, RunhubError, seconds } from "../src/index.js";
import { ClaimSchema, LeaseState, TaskService } from "../src/v1.js";
import { FakeServer, Gate, never } from "./fake.js";

type Work = (signal: AbortSignal, lose: () => void) => unknown;

/** Runs the work, whose lease is lost when it calls `lose`, and returns the loss. */
async function lossOf(work: Work): Promise<LeaseLost> {
  const taken = new Gate();
  await using server = await FakeServer.start((router) =>
    router.service(TaskService, {
      async heartbeat() {
        await taken.opened;
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
    "without an error": (signal) => never(signal).catch(() => "done"),
    "with the signal's reason": never,
    "with Node's AbortError": (signal) => sleep(60_000, undefined, { signal }),
    "with an error caused by the reason": (signal) =>
      never(signal).catch((cause) => {
        throw new Error("stopped", { cause });
      }),
  };
  for (const [how, end] of Object.entries(ends)) {
    it(`has no workError if the work ends ${how}`, async () => {
      const lost = await lossOf((signal, lose) => {
        lose();
        return end(signal);
      });
      assert.equal(lost.workError, undefined);
    });
  }

  it("has the error of the work's cleanup as its workError", async () => {
    const own = new Error("the disk is full");
    const lost = await lossOf(async (signal, lose) => {
      lose();
      try {
        await never(signal);
      } finally {
        await sleep(20);
        // biome-ignore lint/correctness/noUnsafeFinally: this test needs an error of the cleanup
        throw own;
      }
    });
    assert.equal(lost.workError, own);
  });

  it("does not wait for work that ignores the signal", async () => {
    const forever = new Gate();
    const lost = await lossOf((_, lose) => {
      lose();
      return forever.opened;
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
      // This promise is rejected too, and must not become an unhandled rejection.
      void lease[wait]();
      await lease.stop();
      await waiting;
      await assert.rejects(lease[wait](), RunhubError);
      assert.equal(lease.signal.aborted, false);
    });
  }
});
