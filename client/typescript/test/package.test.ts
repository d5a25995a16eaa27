import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, it } from "node:test";

import { json, seconds, value } from "../src/index.js";
import * as v1 from "../src/v1.js";

const GENERATED = new URL("../src/gen/runhub/v1/", import.meta.url);

describe("runhub/v1", () => {
  const files = readdirSync(GENERATED).filter((name) => name.endsWith("_pb.js"));

  it("exports everything that is generated", async () => {
    assert.ok(files.length > 10);
    for (const file of files) {
      for (const [name, thing] of Object.entries(await import(new URL(file, GENERATED).href))) {
        assert.equal((v1 as Record<string, unknown>)[name], thing, `src/v1.ts does not export ${name} of ${file}`);
      }
    }
  });
});

describe("the helpers", () => {
  it("convert JSON to a Value and back", () => {
    const thing = { lines: 120, files: ["a", null], nested: { done: true } };
    assert.deepEqual(json(value(thing)), thing);
    assert.equal(json(value(null)), null);
    assert.equal(json(undefined), undefined);
  });

  it("convert seconds to a Duration", () => {
    const { seconds: whole, nanos } = seconds(1.5);
    assert.deepEqual([whole, nanos], [1n, 500_000_000]);
  });
});
