/** What a scenario wants, against what came. */

import { isDeepStrictEqual } from "node:util";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };

/** A step that did not go as it should. */
export class Failure extends Error {}

export function isObject(json: Json | undefined): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

/** Whether it is what was wanted: an object may have more members, a list has this length, null means absent. */
export function matches(wanted: Json, came: Json | undefined): boolean {
  if (wanted === null) {
    return came === undefined || came === null;
  }
  if (Array.isArray(wanted)) {
    return Array.isArray(came) && came.length === wanted.length && wanted.every((one, at) => matches(one, came[at]));
  }
  if (isObject(wanted)) {
    return isObject(came) && Object.entries(wanted).every(([name, one]) => matches(one, came[name]));
  }
  return isDeepStrictEqual(wanted, came);
}

export function expectMatch(wanted: Json | undefined, came: Json): void {
  if (wanted !== undefined && !matches(wanted, came)) {
    throw new Failure(`wanted: ${JSON.stringify(wanted)}\ncame:   ${JSON.stringify(came)}`);
  }
}

/** What is at `tasks.0.id`; `.` is all of it. */
export function at(path: string, json: Json): Json {
  let here: Json | undefined = json;
  for (const name of path.split(".").filter((name) => name !== "")) {
    here = Array.isArray(here) ? here[Number(name)] : isObject(here) ? here[name] : undefined;
  }
  if (here === undefined) {
    throw new Failure(`nothing at ${path} of ${JSON.stringify(json)}`);
  }
  return here;
}

/** The same with `"$name"`, anywhere in it, replaced by that variable. */
export function filled(json: Json, variables: ReadonlyMap<string, Json>): Json {
  if (Array.isArray(json)) {
    return json.map((one) => filled(one, variables));
  }
  if (isObject(json)) {
    return Object.fromEntries(Object.entries(json).map(([name, one]) => [name, filled(one, variables)]));
  }
  if (typeof json !== "string" || !json.startsWith("$")) {
    return json;
  }
  const variable = variables.get(json.slice(1));
  if (variable === undefined) {
    throw new Failure(`there is no variable ${json}`);
  }
  return variable;
}
