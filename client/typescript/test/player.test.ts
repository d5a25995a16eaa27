import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { JsonObject } from "../scenarios/matching.js";
import { Player } from "../scenarios/player.js";
import { checkMembers, limitMs } from "../scenarios/steps.js";

/** Plays one step without a server, and returns the commands that the stage received. */
async function commandsOf(step: JsonObject): Promise<string[]> {
  const commands: string[] = [];
  const execute = async (command: string) => {
    commands.push(command);
  };
  const player = new Player({ address: "127.0.0.1:1", direct: "127.0.0.1:2", binary: "false", execute });
  try {
    await player.play([step]);
  } finally {
    await player.close();
  }
  return commands;
}

describe("a step", () => {
  it("fails after 10 s if it expects an error or a lost lease, and after 60 s otherwise", () => {
    assert.equal(limitMs({ call: "RunService/CreateRun", refused: { reason: "INVALID_FIELD" } }), 10_000);
    assert.equal(limitMs({ answer: "name", refused: {} }), 10_000);
    assert.equal(limitMs({ lost: "name", because: "taken" }), 10_000);
    assert.equal(limitMs({ call: "RunService/CreateRun" }), 60_000);
    assert.equal(limitMs({ seen: "name", end: "END_REASON_RUN_ENDED" }), 60_000);
  });

  it("fails if it has an unknown member or no verb", async () => {
    await assert.rejects(commandsOf({ server: "kill", expcet: {} }), /expcet/);
    assert.throws(() => checkMembers({ call: "RunService/CreateRun", kinds: [] }), /kinds/);
    assert.throws(() => checkMembers({ server: "kill", cli: [] }), /cli/);
    assert.throws(() => checkMembers({ why: "no verb" }), /has no verb/);
    checkMembers({ seen: "name", event: {}, save: {}, why: "all members are known" });
  });

  it("sends its command to the stage", async () => {
    assert.deepEqual(await commandsOf({ server: "hide" }), ["hide"]);
  });

  it("runs the command line with the server's own address", async () => {
    await assert.rejects(commandsOf({ cli: ["approve", "it"] }), /false approve it --server 127\.0\.0\.1:2/);
  });
});
