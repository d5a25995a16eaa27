/**
 * Plays scenarios: `npm run --silent scenarios -- [--server ADDRESS] [--part NAME] FILE…`, after `npm run compile`.
 *
 * For each scenario, it prints a line with the scenario, the language, `ok` or `FAILED`, and the time in milliseconds.
 */

import { basename } from "node:path";
import { parseArgs } from "node:util";

import { play } from "./scenario.js";
import { runningServer } from "./stage.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { server: { type: "string" }, part: { type: "string" } },
});
const server = values.server === undefined ? undefined : runningServer(values.server);

for (const file of positionals) {
  const name = basename(file, ".json");
  const begin = performance.now();
  let verdict = "ok";
  try {
    await play(file, { server, part: values.part });
  } catch (error) {
    verdict = "FAILED";
    process.exitCode = 1;
    console.error(`${name}: ${error instanceof Error ? error.message : error}`);
  }
  console.log([name, "typescript", verdict, Math.round(performance.now() - begin)].join("\t"));
}
