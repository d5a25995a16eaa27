import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { LeaseLost, RunhubError, seconds } from "../src/index.js";
import { ClaimSchema, LeaseState, TaskService } from "../src/v1.js";
import { FakeServer, Gate, never } from "./fake.js";

type Work = (signal: AbortSignal, lose: () => void) => unknown;

/** What comes of work whose lease is taken when it says so. */
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
  assert.ok(lost instanceof LeaseLost, `the lease was not lost, but: ${lost}`);
  assert.equal(lost.because, "taken");
  return lost;
}

describe("a loss", () => {
  const ends: Record<string, (signal: AbortSignal) => unknown> = {
    "without an error": (signal) => never(signal).catch(() => "done"),
    "with the signal's reason": never,
    "with Node's AbortError": (signal) => sleep(60_000, undefined, { signal }),
    "with an error by it": (signal) =>
      never(signal).catch((cause) => {
        throw new Error("stopped", { cause });
      }),
  };
  for (const [how, end] of Object.entries(ends)) {
    it(`is all there is to say of work that ends ${how}`, async () => {
      const lost = await lossOf((signal, lose) => {
        lose();
        return end(signal);
      });
      assert.equal(lost.workError, undefined);
    });
  }

  it("brings the work's own error with it, of its cleaning up, too", async () => {
    const own = new Error("the disk is full");
    const lost = await lossOf(async (signal, lose) => {
      lose();
      try {
        await never(signal);
      } finally {
        await sleep(20);
        // biome-ignore lint/correctness/noUnsafeFinally: what goes wrong here is what it is about
        throw own;
      }
    });
    assert.equal(lost.workError, own);
  });

  it("does not wait for work that does not heed the signal", async () => {
    const forever = new Gate();
    const lost = await lossOf((_, lose) => {
      lose();
      return forever.opened;
    });
    assert.equal(lost.workError, undefined);
  });
});

describe("the end of a keeper", () => {
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
      // Nobody needs to look at it.
      void lease[wait]();
      await lease.stop();
      await waiting;
      await assert.rejects(lease[wait](), RunhubError);
      assert.equal(lease.signal.aborted, false);
    });
  }
});
