import { readdirSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { runScenario } from "../scenarios/scenario.js";
import { isTestServerAvailable } from "../scenarios/test-server.js";

const FOLDER = fileURLToPath(new URL("../../../scenarios/", import.meta.url));

describe("the scenarios", () => {
  if (!isTestServerAvailable() && process.env.CI === undefined) {
    console.error(
      "!!! SCENARIOS SKIPPED: RUNHUB_TEST_SERVER IS NOT SET, AND CARGO IS NOT INSTALLED TO BUILD THE TEST SERVER !!!",
    );
    it("are skipped", { skip: "RUNHUB_TEST_SERVER is not set and cargo is not installed" }, () => {});
    return;
  }
  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".json"))) {
    it(file, () => runScenario(`${FOLDER}${file}`));
  }
});
