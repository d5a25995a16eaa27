/** Plays scenarios with the TypeScript client. */

import { execFile } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { fromJson } from "@bufbuild/protobuf";

import type { Client } from "../src/client.js";
import { connect, type LeaseKeeper, LeaseLost, RunhubError } from "../src/index.js";
import { type Claim, ClaimSchema, type ClaimTaskRequest, ClaimTaskRequestSchema } from "../src/v1.js";
import { call, checkedAnswer } from "./calls.js";
import { Collector } from "./collector.js";
import { expectMatch, isObject, type Json, type JsonObject, StepFailed, substitute, valueAt } from "./matching.js";
import type { Server } from "./stage.js";
import { checkMembers, limitMs } from "./steps.js";

const LANGUAGE = "typescript";

/** A lease that is kept around background work. */
interface HeldLease {
  readonly keeper: LeaseKeeper;
  /** Ends the work. */
  readonly letGo: () => void;
  /** How the work ended: `let go`, or why the lease was lost. */
  readonly ended: Promise<string>;
}

/** Plays the steps of one part. Holds the part's client, variables and background work. */
export class Player {
  readonly #server: Server;
  readonly #client: Client;
  readonly #variables = new Map<string, Json>();
  readonly #calls = new Map<string, Promise<Json>>();
  readonly #leases = new Map<string, HeldLease>();
  readonly #collectors = new Map<string, Collector>();

  constructor(server: Server) {
    this.#server = server;
    this.#client = connect(server.address);
  }

  /** Plays the steps one after the other. Throws StepFailed with the first step whose result is not as expected. */
  async play(steps: readonly JsonObject[]): Promise<void> {
    for (const [index, step] of steps.entries()) {
      try {
        await this.#playWithinLimit(step);
      } catch (error) {
        const text = error instanceof Error ? error.message : error;
        throw new StepFailed(`step ${index + 1}: ${JSON.stringify(step)}\n${text}`);
      }
    }
  }

  /** Ends the background work and closes the client. */
  async close(): Promise<void> {
    for (const collector of this.#collectors.values()) {
      collector.stop();
    }
    for (const { keeper, letGo } of this.#leases.values()) {
      letGo();
      await keeper.stop();
    }
    await this.#client.close();
  }

  async #playWithinLimit(step: JsonObject): Promise<void> {
    const done = new AbortController();
    const limit = limitMs(step);
    const timedOut = sleep(limit, "timed out", { signal: done.signal }).catch(() => "done");
    try {
      if ((await Promise.race([timedOut, this.#play(step)])) === "timed out") {
        throw new StepFailed(`the step took longer than ${limit} ms`);
      }
    } finally {
      done.abort();
    }
  }

  async #play(raw: JsonObject): Promise<void> {
    checkMembers(raw);
    const { save, ...rest } = raw;
    const step = substitute(rest, this.#variables) as JsonObject;
    const answer = await this.#act(step);
    for (const [name, path] of Object.entries(isObject(save) ? save : {})) {
      this.#variables.set(name, valueAt(String(path), answer));
    }
  }

  /** Does what the step's verb says, and returns its answer. Null if the verb has no answer. */
  async #act(step: JsonObject): Promise<Json> {
    if (typeof step.call === "string") return await this.#call(step.call, step);
    if (typeof step.answer === "string") return await checkedAnswer(named(this.#calls, step.answer), step);
    if (typeof step.server === "string") return await withoutAnswer(this.#server.execute(step.server));
    if (step.hold !== undefined) return this.#hold(step.hold, String(step.as));
    if (typeof step.lost === "string") return await this.#lost(step.lost, step.because);
    if (typeof step.let_go === "string") return await this.#letGo(step.let_go);
    if (isObject(step.work)) return await checkedAnswer(this.#work(step.work), step);
    if (isObject(step.subscribe)) return this.#subscribe(step.subscribe, String(step.as));
    if (typeof step.seen === "string") return await this.#seen(step.seen, step);
    if (Array.isArray(step.cli)) return await this.#cli(step.cli.map(String));
    throw new StepFailed("the step has no verb");
  }

  async #call(name: string, step: JsonObject): Promise<Json> {
    const answer = call(this.#client, name, isObject(step.with) ? step.with : {});
    if (typeof step.as !== "string") {
      return await checkedAnswer(answer, step);
    }
    // A later step reads the error. Until then the rejection must not count as unhandled.
    answer.catch(() => {});
    this.#calls.set(step.as, answer);
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
    this.#leases.set(name, { keeper, letGo: () => letGo.abort(), ended });
    return null;
  }

  async #lost(name: string, because: Json | undefined): Promise<Json> {
    const { ended } = named(this.#leases, name);
    expectMatch(because, await ended);
    return null;
  }

  async #letGo(name: string): Promise<Json> {
    const { keeper, letGo, ended } = named(this.#leases, name);
    letGo();
    expectMatch("let go", await ended);
    return await withoutAnswer(keeper.stop());
  }

  /** Works as one agent until nothing is left to claim. */
  async #work(fields: JsonObject): Promise<Json> {
    const request = fromJson(ClaimTaskRequestSchema, fields);
    for (let done = 0; ; done += 1) {
      const claim = await this.#claim(request);
      if (claim === undefined) {
        return { done };
      }
      await using lease = this.#client.keepLease(claim);
      await lease.run(() => {});
      const { task, leaseToken } = claim;
      await this.#client.tasks.completeTask({ taskId: task?.id ?? "", leaseToken, summary: `done in ${LANGUAGE}` });
    }
  }

  /** Claims a task. Returns undefined if nothing is left to claim. */
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
    this.#collectors.set(name, new Collector(this.#client, request));
    return null;
  }

  async #seen(name: string, { event, end, kinds }: JsonObject): Promise<Json> {
    const collector = named(this.#collectors, name);
    return event === undefined ? await collector.end(end ?? null, kinds) : await collector.event(event);
  }

  async #cli(args: string[]): Promise<Json> {
    await promisify(execFile)(this.#server.binary, [...args, "--server", this.#server.direct]);
    return null;
  }
}

/** Returns the entry with this name, which an earlier step has set with `as`. Throws StepFailed if there is none. */
function named<T>(entries: ReadonlyMap<string, T>, name: string): T {
  const entry = entries.get(name);
  if (entry === undefined) {
    throw new StepFailed(`no earlier step has the name ${name}`);
  }
  return entry;
}

async function withoutAnswer(done: Promise<void>): Promise<Json> {
  await done;
  return null;
}
