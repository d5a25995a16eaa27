/** Conversions to and from protobuf's own messages. */

import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, type Value, ValueSchema } from "@bufbuild/protobuf/wkt";

/** Converts JSON to a payload, a result or a progress of a request: `result: value({ lines: 120 })`. */
export function value(json: JsonValue): Value {
  return fromJson(ValueSchema, json);
}

/** Converts a payload, a result or a progress of an answer to JSON. Returns undefined if the field is not set. */
export function json(value: Value | undefined): JsonValue | undefined {
  return value === undefined ? undefined : toJson(ValueSchema, value);
}

/** Converts a number of seconds to a duration, rounded to milliseconds: `wait: seconds(5)`. */
export function seconds(count: number): Duration {
  return durationFromMs(Math.round(count * 1000));
}
