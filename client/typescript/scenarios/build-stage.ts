/** Builds the stage before the tests, which have a time limit: from nothing that takes minutes. Without cargo it does nothing. */

import { canStage, stageFile } from "./stage.js";

if (canStage()) {
  stageFile();
}
