import { readdirSync } from "node:fs";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { play } from "../scenarios/scenario.js";
import { canStage } from "../scenarios/stage.js";

const FOLDER = fileURLToPath(new URL("../../../scenarios/", import.meta.url));

describe("the scenarios", () => {
  if (!canStage() && process.env.CI === undefined) {
    console.error(
      "!!! THE SCENARIOS ARE LEFT OUT: RUNHUB_STAGE IS UNSET, AND THERE IS NO CARGO TO BUILD THE STAGE !!!",
    );
    it("are left out", { skip: "RUNHUB_STAGE is unset, and there is no cargo" }, () => {});
    return;
  }
  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".json"))) {
    it(file, () => play(`${FOLDER}${file}`));
  }
});
