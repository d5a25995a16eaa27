/** This module replaces the variables in a scenario's steps, and compares expected JSON with actual JSON. */

import { isDeepStrictEqual } from "node:util";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };

/** Reports that a step of a scenario failed. The message explains the failure. */
export class StepFailed extends Error {}

export function isObject(json: Json | undefined): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

/**
 * Returns whether the actual JSON matches the expected JSON. An object must have the expected members and may have
 * other members. A list must have the expected length. An expected null also matches an absent member. Any other value
 * must be equal.
 */
export function matches(expected: Json, actual: Json | undefined): boolean {
  if (expected === null) {
    return actual === undefined || actual === null;
  }
  if (Array.isArray(expected)) {
    if (!Array.isArray(actual) || actual.length !== expected.length) {
      return false;
    }
    return expected.every((entry, index) => matches(entry, actual[index]));
  }
  if (isObject(expected)) {
    return isObject(actual) && Object.entries(expected).every(([name, member]) => matches(member, actual[name]));
  }
  return isDeepStrictEqual(expected, actual);
}

/** Throws StepFailed if the actual JSON does not match `expected`. If `expected` is undefined, any JSON matches. */
export function expectMatch(expected: Json | undefined, actual: Json): void {
  if (expected !== undefined && !matches(expected, actual)) {
    const texts = `${JSON.stringify(expected)}, but is ${JSON.stringify(actual)}`;
    throw new StepFailed(`the step's result must match ${texts}: check the scenario's steps before this step`);
  }
}

/**
 * Returns the value in `json` at a path such as `tasks.0.id`. For the path `.`, the function returns the whole `json`.
 * Throws StepFailed if `json` has no value at the path.
 */
export function findValue(path: string, json: Json): Json {
  let value: Json | undefined = json;
  for (const name of path.split(".").filter((name) => name !== "")) {
    if (Array.isArray(value)) {
      value = value[Number(name)];
    } else {
      value = isObject(value) ? value[name] : undefined;
    }
  }
  if (value === undefined) {
    const result = JSON.stringify(json);
    throw new StepFailed(`the step's result ${result} has no value at the path ${path}: correct the path in "save"`);
  }
  return value;
}

/**
 * Returns the JSON with each string `$name` replaced by the value of the variable `name`. Throws StepFailed if a
 * variable is not set.
 */
export function substitute(json: Json, variables: ReadonlyMap<string, Json>): Json {
  if (Array.isArray(json)) {
    return json.map((entry) => substitute(entry, variables));
  }
  if (isObject(json)) {
    return Object.fromEntries(Object.entries(json).map(([name, member]) => [name, substitute(member, variables)]));
  }
  if (typeof json !== "string" || !json.startsWith("$")) {
    return json;
  }
  const variable = variables.get(json.slice(1));
  if (variable === undefined) {
    throw new StepFailed(`the variable ${json.slice(1)} is not set: set the variable with "save" in an earlier step`);
  }
  return variable;
}
