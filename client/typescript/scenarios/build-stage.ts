/** Builds the stage before the tests, because the build takes longer than their time limit. Without cargo it does nothing. */

import { canHaveStage, stageFile } from "./stage.js";

if (canHaveStage()) {
  stageFile();
}
