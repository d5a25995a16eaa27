import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { JsonObject } from "../scenarios/compare.js";
import { Player } from "../scenarios/player.js";
import type { Venue } from "../scenarios/stage.js";
import { checkMembers, limitMs } from "../scenarios/steps.js";

/** Plays one step where there is no server; returns what the stage was told. */
async function played(step: JsonObject, venue: Partial<Venue> = {}): Promise<string[]> {
  const orders: string[] = [];
  const tell = async (order: string) => {
    orders.push(order);
  };
  const player = new Player({ address: "127.0.0.1:1", direct: "127.0.0.1:2", binary: "false", tell, ...venue });
  try {
    await player.play([step]);
  } finally {
    await player.close();
  }
  return orders;
}

describe("a step", () => {
  it("fails after 10 s when it wants a refusal or a loss, else after 60 s", () => {
    assert.equal(limitMs({ call: "RunService/CreateRun", refused: { reason: "INVALID_FIELD" } }), 10_000);
    assert.equal(limitMs({ answer: "name", refused: {} }), 10_000);
    assert.equal(limitMs({ lost: "name", because: "taken" }), 10_000);
    assert.equal(limitMs({ call: "RunService/CreateRun" }), 60_000);
    assert.equal(limitMs({ seen: "name", end: "END_REASON_RUN_ENDED" }), 60_000);
  });

  it("is refused with a member that nobody looks at", async () => {
    await assert.rejects(played({ server: "kill", expcet: {} }), /expcet/);
    assert.throws(() => checkMembers({ call: "RunService/CreateRun", kinds: [] }), /kinds/);
    assert.throws(() => checkMembers({ server: "kill", cli: [] }), /cli/);
    assert.throws(() => checkMembers({ why: "no verb" }), /without a verb/);
    checkMembers({ seen: "name", event: {}, save: {}, why: "all of it is known" });
  });

  it("passes on to the stage whatever it is told", async () => {
    assert.deepEqual(await played({ server: "hide" }), ["hide"]);
  });

  it("calls the command line with the server's own address", async () => {
    await assert.rejects(played({ cli: ["approve", "it"] }), /false approve it --server 127\.0\.0\.1:2/);
  });
});
