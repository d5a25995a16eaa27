import { readdirSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { play } from "../scenarios/scenario.js";
import { canHaveStage } from "../scenarios/stage.js";

const FOLDER = fileURLToPath(new URL("../../../scenarios/", import.meta.url));

describe("the scenarios", () => {
  if (!canHaveStage() && process.env.CI === undefined) {
    console.error("!!! SCENARIOS SKIPPED: RUNHUB_STAGE IS NOT SET, AND CARGO IS NOT INSTALLED TO BUILD THE STAGE !!!");
    it("are skipped", { skip: "RUNHUB_STAGE is not set and cargo is not installed" }, () => {});
    return;
  }
  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".json"))) {
    it(file, () => play(`${FOLDER}${file}`));
  }
});
