/** This module converts values to and from the well-known types of protobuf. */

import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, type Value, ValueSchema } from "@bufbuild/protobuf/wkt";

/** Converts JSON to a protobuf Value, for example for the result in a request: `result: value({ lines: 120 })`. */
export function value(json: JsonValue): Value {
  return fromJson(ValueSchema, json);
}

/**
 * Converts a protobuf Value, for example the payload of an event, to JSON. If the field is unset, the function returns
 * undefined.
 */
export function json(value: Value | undefined): JsonValue | undefined {
  return value === undefined ? undefined : toJson(ValueSchema, value);
}

/** Converts a number of seconds to a protobuf Duration, rounded to milliseconds: `wait: seconds(5)`. */
export function seconds(count: number): Duration {
  return durationFromMs(Math.round(count * 1000));
}
