/** This module runs the participants of a scenario at the same time. */

import { readFileSync } from "node:fs";

import { type JsonObject, StepFailed } from "./matching.js";
import { ParticipantRunner } from "./runner.js";
import { findOrBuildTestServer, type Server, TestServer } from "./test-server.js";

/** The JSON content of a scenario file. */
interface Scenario {
  readonly about: string;
  readonly participants: Readonly<Record<string, readonly JsonObject[]>>;
}

export interface RunScenarioOptions {
  /** The server against which the scenario runs. If the server is undefined, the scenario gets its own test server. */
  readonly server?: Server | undefined;
  /** The name of the only participant to run. If the name is undefined, all participants run. */
  readonly participant?: string | undefined;
}

/**
 * Runs the scenario in a file. Throws StepFailed if a step fails, or if the scenario has no participant with the name
 * `participant`.
 */
export async function runScenario(file: string, { server, participant }: RunScenarioOptions = {}): Promise<void> {
  const scenario: Scenario = JSON.parse(readFileSync(file, "utf8"));
  const participants = Object.entries(scenario.participants).filter(
    ([name]) => participant === undefined || name === participant,
  );
  if (participants.length === 0) {
    const names = Object.keys(scenario.participants).join(", ");
    throw new StepFailed(
      `the scenario ${file} has no participant ${participant}: pass one of the participants ${names}`,
    );
  }
  if (server !== undefined) {
    await runParticipants(participants, server);
    return;
  }
  await using testServer = await TestServer.open(findOrBuildTestServer());
  await runParticipants(participants, testServer);
}

/**
 * Runs the participants at the same time. If a participant fails, the function ends the other participants and throws
 * StepFailed.
 */
async function runParticipants(
  participants: readonly [string, readonly JsonObject[]][],
  server: Server,
): Promise<void> {
  const runners = participants.map(([name, steps]) => ({ name, steps, runner: new ParticipantRunner(server) }));
  try {
    await Promise.all(runners.map(({ name, steps, runner }) => runParticipant(name, steps, runner)));
  } finally {
    await Promise.all(runners.map(({ runner }) => runner.close()));
  }
}

async function runParticipant(name: string, steps: readonly JsonObject[], runner: ParticipantRunner): Promise<void> {
  try {
    await runner.runSteps(steps);
  } catch (error) {
    throw new StepFailed(`participant ${name}, ${error instanceof Error ? error.message : error}`);
  }
}
