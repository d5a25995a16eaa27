/** This module runs the steps of a scenario with the TypeScript client. */

import { execFile } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { fromJson } from "@bufbuild/protobuf";

import type { Client } from "../src/client.js";
import { connect, type LeaseKeeper, LeaseLost, RunhubError } from "../src/index.js";
import { type Claim, ClaimSchema, type ClaimTaskRequest, ClaimTaskRequestSchema } from "../src/v1.js";
import { checkResponse, makeCall } from "./calls.js";
import { Collector } from "./collector.js";
import { expectMatch, findValue, isObject, type Json, type JsonObject, StepFailed, substitute } from "./matching.js";
import { checkMembers, chooseStepLimitMs } from "./steps.js";
import type { Server } from "./test-server.js";

const LANGUAGE = "typescript";

/**
 * Describes a lease that a LeaseKeeper renews in the background while the function that was passed to the keeper's `run`
 * waits.
 */
interface HeldLease {
  readonly keeper: LeaseKeeper;
  /** Makes the function that was passed to the keeper's `run` return. */
  readonly endFunction: () => void;
  /** Resolves when the keeper's `run` has ended. The value is `function ended` or the reason why the lease was lost. */
  readonly ended: Promise<string>;
}

/**
 * Runs the steps of one participant of a scenario, and stores the participant's client, variables, calls, leases and
 * subscriptions.
 */
export class ParticipantRunner {
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

  /** Runs the steps in order. If a step fails, throws StepFailed with the number and the text of the step. */
  async runSteps(steps: readonly JsonObject[]): Promise<void> {
    for (const [index, step] of steps.entries()) {
      try {
        await this.#runWithinLimit(step);
      } catch (error) {
        const text = error instanceof Error ? error.message : error;
        throw new StepFailed(`step ${index + 1}: ${JSON.stringify(step)}\n${text}`);
      }
    }
  }

  /** Ends the participant's leases and subscriptions and closes the participant's client. */
  async close(): Promise<void> {
    for (const collector of this.#collectors.values()) {
      collector.stop();
    }
    for (const { keeper, endFunction } of this.#leases.values()) {
      endFunction();
      await keeper.stop();
    }
    await this.#client.close();
  }

  async #runWithinLimit(step: JsonObject): Promise<void> {
    const done = new AbortController();
    const limit = chooseStepLimitMs(step);
    const timedOut = sleep(limit, "timed out", { signal: done.signal }).catch(() => "done");
    try {
      if ((await Promise.race([timedOut, this.#runStep(step)])) === "timed out") {
        throw new StepFailed(`the step took longer than ${limit} ms: check the scenario's steps before this step`);
      }
    } finally {
      done.abort();
    }
  }

  async #runStep(raw: JsonObject): Promise<void> {
    checkMembers(raw);
    const { save, ...rest } = raw;
    const step = substitute(rest, this.#variables) as JsonObject;
    const answer = await this.#act(step);
    for (const [name, path] of Object.entries(isObject(save) ? save : {})) {
      this.#variables.set(name, findValue(String(path), answer));
    }
  }

  /**
   * Executes the step and returns the result, or null if the step's verb has no result. Throws StepFailed if the step
   * has no verb or the result differs from the expected result.
   */
  async #act(step: JsonObject): Promise<Json> {
    if (typeof step.call === "string") return await this.#call(step.call, step);
    if (typeof step.answer === "string") return await checkResponse(findEntry(this.#calls, step.answer), step);
    if (typeof step.server === "string") return await waitAndReturnNull(this.#server.execute(step.server));
    if (step.keep_lease !== undefined) return this.#keepLease(step.keep_lease, String(step.as));
    if (typeof step.lost === "string") return await this.#lost(step.lost, step.cause);
    if (typeof step.stop_keeper === "string") return await this.#stopKeeper(step.stop_keeper);
    if (isObject(step.work)) return await checkResponse(this.#work(step.work), step);
    if (isObject(step.subscribe)) return this.#subscribe(step.subscribe, String(step.as));
    if (typeof step.seen === "string") return await this.#seen(step.seen, step);
    if (Array.isArray(step.cli)) return await this.#cli(step.cli.map(String));
    throw new StepFailed(`no verb accepts the value in the step ${JSON.stringify(step)}: correct the value`);
  }

  async #call(name: string, step: JsonObject): Promise<Json> {
    const answer = makeCall(this.#client, name, isObject(step.with) ? step.with : {});
    if (typeof step.as !== "string") {
      return await checkResponse(answer, step);
    }
    // A later step reads the error of the call. Without this handler, Node would report an unhandled rejection before
    // that step.
    answer.catch(() => {});
    this.#calls.set(step.as, answer);
    return null;
  }

  #keepLease(claim: Json, name: string): Json {
    const keeper = this.#client.keepLease(fromJson(ClaimSchema, claim));
    const end = new AbortController();
    const ended = keeper
      .run(() => once(end.signal, "abort"))
      .then(
        () => "function ended",
        (error) => (error instanceof LeaseLost ? error.because : String(error)),
      );
    this.#leases.set(name, { keeper, endFunction: () => end.abort(), ended });
    return null;
  }

  async #lost(name: string, cause: Json | undefined): Promise<Json> {
    const { ended } = findEntry(this.#leases, name);
    expectMatch(cause, await ended);
    return null;
  }

  async #stopKeeper(name: string): Promise<Json> {
    const { keeper, endFunction, ended } = findEntry(this.#leases, name);
    endFunction();
    expectMatch("function ended", await ended);
    return await waitAndReturnNull(keeper.stop());
  }

  /** Claims and completes tasks until there is no task to claim. Returns the number of completed tasks. */
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

  /** Claims a task. Returns undefined if no task is pending or the run has ended. */
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
    const collector = findEntry(this.#collectors, name);
    return event === undefined ? await collector.end(end ?? null, kinds) : await collector.event(event);
  }

  async #cli(args: string[]): Promise<Json> {
    await promisify(execFile)(this.#server.binary, [...args, "--server", this.#server.direct]);
    return null;
  }
}

/**
 * Returns the entry that an earlier step has stored under `name` with the member `as`. Throws StepFailed if no entry
 * has the name.
 */
function findEntry<T>(entries: ReadonlyMap<string, T>, name: string): T {
  const entry = entries.get(name);
  if (entry === undefined) {
    throw new StepFailed(`no earlier step has the member "as" with the name ${name}: correct the name`);
  }
  return entry;
}

async function waitAndReturnNull(done: Promise<void>): Promise<Json> {
  await done;
  return null;
}
