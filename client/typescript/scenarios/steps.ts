/** The verbs of a step and their members. */

import { type JsonObject, StepFailed } from "./matching.js";

/** The time limit of a step. */
const STEP_LIMIT_MS = 60_000;

/**
 * The time limit of a step that expects an error or a lost lease. After more time, the client has retried a refused call, or
 * the lease was lost for another reason.
 */
const SHORT_STEP_LIMIT_MS = 10_000;

/** The members of each verb. */
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  call: ["with", "expect", "refused", "as"],
  answer: ["expect", "refused"],
  server: [],
  hold: ["as"],
  lost: ["because"],
  let_go: [],
  work: ["expect"],
  subscribe: ["as"],
  seen: ["event", "end", "kinds"],
  cli: [],
};

/** Throws StepFailed if the step has an unknown member, because it would be a check that this runner does not make. */
export function checkMembers(step: JsonObject): void {
  const names = Object.keys(step);
  const verb = names.find((name) => name in MEMBERS);
  if (verb === undefined) {
    throw new StepFailed("the step has no verb");
  }
  const known = [verb, ...(MEMBERS[verb] ?? []), "save", "why"];
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new StepFailed(`the verb ${verb} has no member ${unknown.join(", ")}`);
  }
}

/** Returns the time limit of the step in milliseconds. */
export function limitMs(step: JsonObject): number {
  return step.refused === undefined && step.lost === undefined ? STEP_LIMIT_MS : SHORT_STEP_LIMIT_MS;
}
