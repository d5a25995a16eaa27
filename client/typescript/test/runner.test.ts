import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { JsonObject } from "../scenarios/matching.js";
import { ParticipantRunner } from "../scenarios/runner.js";
import { checkMembers, chooseStepLimitMs } from "../scenarios/steps.js";

/** Runs one step without a test server, and returns the commands that the step would send to the test server. */
async function recordCommands(step: JsonObject): Promise<string[]> {
  const commands: string[] = [];
  const execute = async (command: string) => {
    commands.push(command);
  };
  const runner = new ParticipantRunner({
    address: "127.0.0.1:1",
    direct: "127.0.0.1:2",
    binary: "false",
    execute,
  });
  try {
    await runner.runSteps([step]);
  } finally {
    await runner.close();
  }
  return commands;
}

describe("a step", () => {
  it("fails after 10 s if it expects an error or a lost lease, and after 60 s otherwise", () => {
    assert.equal(chooseStepLimitMs({ call: "RunService/CreateRun", refused: { reason: "INVALID_FIELD" } }), 10_000);
    assert.equal(chooseStepLimitMs({ answer: "name", refused: {} }), 10_000);
    assert.equal(chooseStepLimitMs({ lost: "name", cause: "taken" }), 10_000);
    assert.equal(chooseStepLimitMs({ call: "RunService/CreateRun" }), 60_000);
    assert.equal(chooseStepLimitMs({ seen: "name", end: "END_REASON_RUN_ENDED" }), 60_000);
  });

  it("fails if it has an unknown member or no verb", async () => {
    await assert.rejects(recordCommands({ server: "kill", expcet: {} }), /expcet/);
    assert.throws(() => checkMembers({ call: "RunService/CreateRun", kinds: [] }), /kinds/);
    assert.throws(() => checkMembers({ server: "kill", cli: [] }), /cli/);
    assert.throws(() => checkMembers({ why: "no verb" }), /has no verb/);
    checkMembers({ seen: "name", event: {}, save: {}, why: "all members are known" });
  });

  it("sends its command to the test server", async () => {
    assert.deepEqual(await recordCommands({ server: "hide" }), ["hide"]);
  });

  it("runs the command line with the server's own address", async () => {
    await assert.rejects(recordCommands({ cli: ["approve", "it"] }), /false approve it --server 127\.0\.0\.1:2/);
  });
});
