/** A scenario: its parts, played at the same time. */

import { readFileSync } from "node:fs";

import { Failure, type JsonObject } from "./compare.js";
import { Player } from "./player.js";
import { Stage, stageFile, type Venue } from "./stage.js";

interface Scenario {
  readonly about: string;
  readonly parts: Readonly<Record<string, readonly JsonObject[]>>;
}

export interface Options {
  /** Play against this one; without it on a stage of its own. */
  readonly venue?: Venue | undefined;
  /** Only this part. */
  readonly part?: string | undefined;
}

/** Plays the scenario in a file; throws a Failure if it is not passed. */
export async function play(file: string, { venue, part }: Options = {}): Promise<void> {
  const scenario: Scenario = JSON.parse(readFileSync(file, "utf8"));
  const parts = Object.entries(scenario.parts).filter(([name]) => part === undefined || name === part);
  if (parts.length === 0) {
    throw new Failure(`${file} has no part ${part}`);
  }
  if (venue !== undefined) {
    await playParts(parts, venue);
    return;
  }
  await using stage = await Stage.open(stageFile());
  await playParts(parts, stage);
}

/** The first that fails ends the others. */
async function playParts(parts: readonly [string, readonly JsonObject[]][], venue: Venue): Promise<void> {
  const players = parts.map(([name, steps]) => ({ name, steps, player: new Player(venue) }));
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
    throw new Failure(`part ${name}, ${error instanceof Error ? error.message : error}`);
  }
}
