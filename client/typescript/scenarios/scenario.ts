/** Plays the parts of a scenario at the same time. */

import { readFileSync } from "node:fs";

import { type JsonObject, StepFailed } from "./matching.js";
import { Player } from "./player.js";
import { type Server, Stage, stageFile } from "./stage.js";

/** The content of a scenario's file. */
interface Scenario {
  readonly about: string;
  readonly parts: Readonly<Record<string, readonly JsonObject[]>>;
}

export interface Options {
  /** The server to play against. Without it, the scenario has a stage of its own. */
  readonly server?: Server | undefined;
  /** The only part to play. Without it, all parts are played. */
  readonly part?: string | undefined;
}

/** Plays the scenario in a file. Throws StepFailed with the first step whose result is not as expected. */
export async function play(file: string, { server, part }: Options = {}): Promise<void> {
  const scenario: Scenario = JSON.parse(readFileSync(file, "utf8"));
  const parts = Object.entries(scenario.parts).filter(([name]) => part === undefined || name === part);
  if (parts.length === 0) {
    throw new StepFailed(`${file} has no part ${part}`);
  }
  if (server !== undefined) {
    await playParts(parts, server);
    return;
  }
  await using stage = await Stage.open(stageFile());
  await playParts(parts, stage);
}

/** Plays the parts at the same time. If a part fails, the other parts are ended. */
async function playParts(parts: readonly [string, readonly JsonObject[]][], server: Server): Promise<void> {
  const players = parts.map(([name, steps]) => ({ name, steps, player: new Player(server) }));
  try {
    await Promise.all(players.map(({ name, steps, player }) => playPart(name, steps, player)));
  } finally {
    await Promise.all(players.map(({ player }) => player.close()));
  }
}

async function playPart(name: string, steps: readonly JsonObject[], player: Player): Promise<void> {
  try {
    await player.play(steps);
  } catch (error) {
    throw new StepFailed(`part ${name}, ${error instanceof Error ? error.message : error}`);
  }
}
