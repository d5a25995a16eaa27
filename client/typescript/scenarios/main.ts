/**
 * Plays scenarios: `npm run --silent scenarios -- [--server ADDRESS] [--part NAME] FILE…`, after `npm run compile`.
 *
 * It prints a line for each: scenario, language, `ok` or `FAILED`, milliseconds.
 */

import { basename } from "node:path";
import { parseArgs } from "node:util";

import { play } from "./scenario.js";
import { givenServer } from "./stage.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { server: { type: "string" }, part: { type: "string" } },
});
const venue = values.server === undefined ? undefined : givenServer(values.server);

for (const file of positionals) {
  const name = basename(file, ".json");
  const begin = performance.now();
  let outcome = "ok";
  try {
    await play(file, { venue, part: values.part });
  } catch (error) {
    outcome = "FAILED";
    process.exitCode = 1;
    console.error(`${name}: ${error instanceof Error ? error.message : error}`);
  }
  console.log([name, "typescript", outcome, Math.round(performance.now() - begin)].join("\t"));
}
