/** Short ways to write the well-known messages of a request. */

import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, type Value, ValueSchema } from "@bufbuild/protobuf/wkt";

/** JSON as a request's payload, result or progress: `result: value({ lines: 120 })`. */
export function value(json: JsonValue): Value {
  return fromJson(ValueSchema, json);
}

/** The JSON of an answer's payload, result or progress; undefined if it is not set. */
export function json(value: Value | undefined): JsonValue | undefined {
  return value === undefined ? undefined : toJson(ValueSchema, value);
}

/** A duration: `wait: seconds(5)`. To the millisecond. */
export function seconds(count: number): Duration {
  return durationFromMs(Math.round(count * 1000));
}
