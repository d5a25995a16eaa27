/** This module checks the members of a step, and returns the time limit of a step. */

import { type JsonObject, StepFailed } from "./matching.js";

/** The time limit in milliseconds of a step that expects neither an error nor a lost lease. */
const STEP_LIMIT_MS = 60_000;

/**
 * The time limit in milliseconds of a step that expects an error or a lost lease. If the client retries the refused
 * call until the client's deadline of 30 s, the step exceeds this limit and fails.
 */
const SHORT_STEP_LIMIT_MS = 10_000;

/**
 * The verbs of a scenario step, and for each verb the JSON members that the step may have in addition to the verb,
 * `save` and `why`.
 */
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  call: ["with", "expect", "refused", "as"],
  answer: ["expect", "refused"],
  server: [],
  keep_lease: ["as"],
  lost: ["cause"],
  stop_keeper: [],
  work: ["expect"],
  subscribe: ["as"],
  seen: ["event", "end", "kinds"],
  cli: [],
};

/**
 * Throws StepFailed if the step has no verb or has an unknown member. If the runner ignored an unknown member, a
 * misspelled check would always pass.
 */
export function checkMembers(step: JsonObject): void {
  const names = Object.keys(step);
  const verb = names.find((name) => name in MEMBERS);
  if (verb === undefined) {
    throw new StepFailed(`the step has no verb: use one of the verbs ${Object.keys(MEMBERS).join(", ")}`);
  }
  const known = [verb, ...(MEMBERS[verb] ?? []), "save", "why"];
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    const members = unknown.join(", ");
    throw new StepFailed(`a step with the verb ${verb} must not have the members ${members}: remove these members`);
  }
}

/** Returns the time limit of the step in milliseconds. */
export function chooseStepLimitMs(step: JsonObject): number {
  return step.refused === undefined && step.lost === undefined ? STEP_LIMIT_MS : SHORT_STEP_LIMIT_MS;
}
