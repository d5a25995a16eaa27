/** What a step may say. */

import { Failure, type JsonObject } from "./compare.js";

const STEP_LIMIT_MS = 60_000;

/** What must come soon: a client that tries again and again instead would be within the limit of the others. */
const REFUSAL_LIMIT_MS = 10_000;

/** The members that each verb has beside it. */
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

/** Throws a Failure for a member that its verb does not have: a typo would be a check that nobody makes. */
export function checkMembers(step: JsonObject): void {
  const names = Object.keys(step);
  const verb = names.find((name) => name in MEMBERS);
  if (verb === undefined) {
    throw new Failure("a step without a verb");
  }
  const known = [verb, ...(MEMBERS[verb] ?? []), "save", "why"];
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new Failure(`a step with ${verb} has no ${unknown.join(", ")}`);
  }
}

/** How long it may take. */
export function limitMs(step: JsonObject): number {
  return step.refused === undefined && step.lost === undefined ? STEP_LIMIT_MS : REFUSAL_LIMIT_MS;
}
