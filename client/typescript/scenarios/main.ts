/**
 * Runs scenario files with the TypeScript client. After `npm run compile`, the command line is
 * `npm run --silent scenarios -- [--server ADDRESS] [--participant NAME] FILE…`.
 *
 * For each scenario, the script prints one line with the scenario's name, the language, `ok` or `FAILED`, and the time
 * in milliseconds.
 */

import { basename } from "node:path";
import { parseArgs } from "node:util";

import { runScenario } from "./scenario.js";
import { describeRunningServer } from "./test-server.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { server: { type: "string" }, participant: { type: "string" } },
});
const server = values.server === undefined ? undefined : describeRunningServer(values.server);

for (const file of positionals) {
  const name = basename(file, ".json");
  const begin = performance.now();
  let verdict = "ok";
  try {
    await runScenario(file, { server, participant: values.participant });
  } catch (error) {
    verdict = "FAILED";
    process.exitCode = 1;
    console.error(`${name}: ${error instanceof Error ? error.message : error}`);
  }
  console.log([name, "typescript", verdict, Math.round(performance.now() - begin)].join("\t"));
}
