import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Stage } from "../scenarios/stage.js";

const BUILD_STAGE = fileURLToPath(new URL("../scenarios/build-stage.js", import.meta.url));

describe("the stage", () => {
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "runhub-"));
  });
  after(() => rm(folder, { recursive: true }));

  const script = (name: string, lines: string) =>
    writeFile(join(folder, name), `#!/bin/sh\n${lines}\n`, { mode: 0o755 }).then(() => join(folder, name));

  /** Runs build-stage with a fake cargo, and returns the arguments of its calls. */
  async function cargoCalls(env: Record<string, string>): Promise<string> {
    await script("cargo", `echo "$@" >>"${folder}/calls"`);
    await writeFile(join(folder, "calls"), "");
    await promisify(execFile)(process.execPath, [BUILD_STAGE], { env });
    return await readFile(join(folder, "calls"), "utf8");
  }

  it("is built before the tests", async () => {
    const calls = await cargoCalls({ PATH: folder });
    assert.equal(calls, "--version\nbuild --release --locked --bin runhub --example stage\n");
  });

  it("is not built if RUNHUB_STAGE names it or cargo is not installed", async () => {
    assert.equal(await cargoCalls({ PATH: folder, RUNHUB_STAGE: "/there" }), "");
    assert.equal(await cargoCalls({ PATH: "/nowhere" }), "");
  });

  it("reports the proxy's address, the binary and the server's own address", async () => {
    const file = await script("ready", "echo ready 127.0.0.1:1 /bin/runhub 127.0.0.1:2; read end");
    await using stage = await Stage.open(file);
    assert.deepEqual([stage.address, stage.binary, stage.direct], ["127.0.0.1:1", "/bin/runhub", "127.0.0.1:2"]);
  });

  it("is not ready if it does not report all of them", async () => {
    await assert.rejects(
      Stage.open(await script("old", "echo ready 127.0.0.1:1 /bin/runhub")),
      /not `ready ADDRESS BINARY DIRECT`/,
    );
  });
});
