/** A part of a scenario: its steps, one after the other, with a client of its own. */

import { execFile } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { fromJson } from "@bufbuild/protobuf";

import type { Client } from "../src/client.js";
import { connect, type LeaseKeeper, LeaseLost, RunhubError } from "../src/index.js";
import { type Claim, ClaimSchema, type ClaimTaskRequest, ClaimTaskRequestSchema } from "../src/v1.js";
import { call, settled } from "./calls.js";
import { at, expectMatch, Failure, filled, isObject, type Json, type JsonObject } from "./compare.js";
import type { Venue } from "./stage.js";
import { checkMembers, limitMs } from "./steps.js";
import { Watcher } from "./watcher.js";

const LANGUAGE = "typescript";

/** A lease that is held around work in the background. */
interface Hold {
  readonly keeper: LeaseKeeper;
  readonly letGo: () => void;
  /** How the work ended: let go, or cancelled because. */
  readonly ended: Promise<string>;
}

export class Player {
  readonly #venue: Venue;
  readonly #client: Client;
  readonly #variables = new Map<string, Json>();
  readonly #answers = new Map<string, Promise<Json>>();
  readonly #holds = new Map<string, Hold>();
  readonly #watchers = new Map<string, Watcher>();

  constructor(venue: Venue) {
    this.#venue = venue;
    this.#client = connect(venue.address);
  }

  async play(steps: readonly JsonObject[]): Promise<void> {
    for (const [index, step] of steps.entries()) {
      try {
        await this.#inTime(step);
      } catch (error) {
        throw new Failure(
          `step ${index + 1}: ${JSON.stringify(step)}\n${error instanceof Error ? error.message : error}`,
        );
      }
    }
  }

  async close(): Promise<void> {
    for (const watcher of this.#watchers.values()) {
      watcher.stop();
    }
    for (const { keeper, letGo } of this.#holds.values()) {
      letGo();
      await keeper.stop();
    }
    await this.#client.close();
  }

  async #inTime(step: JsonObject): Promise<void> {
    const done = new AbortController();
    const longestMs = limitMs(step);
    const late = sleep(longestMs, "late", { signal: done.signal }).catch(() => "done");
    try {
      if ((await Promise.race([late, this.#step(step)])) === "late") {
        throw new Failure(`it took longer than ${longestMs} ms`);
      }
    } finally {
      done.abort();
    }
  }

  async #step(written: JsonObject): Promise<void> {
    checkMembers(written);
    const { save, ...rest } = written;
    const step = filled(rest, this.#variables) as JsonObject;
    const answer = await this.#act(step);
    for (const [name, path] of Object.entries(isObject(save) ? save : {})) {
      this.#variables.set(name, at(String(path), answer));
    }
  }

  /** Does what the step's verb says; returns the answer. */
  async #act(step: JsonObject): Promise<Json> {
    if (typeof step.call === "string") return await this.#call(step.call, step);
    if (typeof step.answer === "string") return await settled(named(this.#answers, step.answer), step);
    if (typeof step.server === "string") return await nothing(this.#venue.tell(step.server));
    if (step.hold !== undefined) return this.#hold(step.hold, String(step.as));
    if (typeof step.lost === "string") return await this.#lost(step.lost, step.because);
    if (typeof step.let_go === "string") return await this.#letGo(step.let_go);
    if (isObject(step.work)) return await settled(this.#work(step.work), step);
    if (isObject(step.subscribe)) return this.#subscribe(step.subscribe, String(step.as));
    if (typeof step.seen === "string") return await this.#seen(step.seen, step);
    if (Array.isArray(step.cli)) return await this.#cli(step.cli.map(String));
    throw new Failure("a step without a verb");
  }

  async #call(name: string, step: JsonObject): Promise<Json> {
    const answer = call(this.#client, name, isObject(step.with) ? step.with : {});
    if (typeof step.as !== "string") {
      return await settled(answer, step);
    }
    // What it meets shows when it is waited for.
    answer.catch(() => {});
    this.#answers.set(step.as, answer);
    return null;
  }

  #hold(claim: Json, name: string): Json {
    const keeper = this.#client.keepLease(fromJson(ClaimSchema, claim));
    const letGo = new AbortController();
    const ended = keeper
      .run(() => once(letGo.signal, "abort"))
      .then(
        () => "let go",
        (error) => (error instanceof LeaseLost ? error.because : String(error)),
      );
    this.#holds.set(name, { keeper, letGo: () => letGo.abort(), ended });
    return null;
  }

  async #lost(name: string, because: Json | undefined): Promise<Json> {
    const { ended } = named(this.#holds, name);
    expectMatch(because, await ended);
    return null;
  }

  async #letGo(name: string): Promise<Json> {
    const { keeper, letGo, ended } = named(this.#holds, name);
    letGo();
    expectMatch("let go", await ended);
    return await nothing(keeper.stop());
  }

  /** An agent, until nothing is pending. */
  async #work(fields: JsonObject): Promise<Json> {
    const request = fromJson(ClaimTaskRequestSchema, fields);
    for (let done = 0; ; done += 1) {
      const claimed = await this.#claim(request);
      if (claimed === undefined) {
        return { done };
      }
      await using lease = this.#client.keepLease(claimed);
      await lease.run(() => {});
      const { task, leaseToken } = claimed;
      await this.#client.tasks.completeTask({ taskId: task?.id ?? "", leaseToken, summary: `done in ${LANGUAGE}` });
    }
  }

  async #claim(request: ClaimTaskRequest): Promise<Claim | undefined> {
    for (;;) {
      try {
        const { claim, unclaimable } = await this.#client.tasks.claimTask(request);
        if (claim !== undefined || unclaimable?.pending === 0) {
          return claim;
        }
      } catch (error) {
        if (error instanceof RunhubError && error.reason === "RUN_ENDED") {
          return undefined;
        }
        throw error;
      }
    }
  }

  #subscribe(request: JsonObject, name: string): Json {
    this.#watchers.set(name, new Watcher(this.#client, request));
    return null;
  }

  async #seen(name: string, { event, end, kinds }: JsonObject): Promise<Json> {
    const watcher = named(this.#watchers, name);
    return event === undefined ? await watcher.end(end ?? null, kinds) : await watcher.event(event);
  }

  async #cli(args: string[]): Promise<Json> {
    await promisify(execFile)(this.#venue.binary, [...args, "--server", this.#venue.direct]);
    return null;
  }
}

function named<T>(things: ReadonlyMap<string, T>, name: string): T {
  const thing = things.get(name);
  if (thing === undefined) {
    throw new Failure(`there is no ${name}`);
  }
  return thing;
}

/** The answer of a step that has none. */
async function nothing(done: Promise<void>): Promise<Json> {
  await done;
  return null;
}
