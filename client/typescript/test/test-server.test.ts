import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { TestServer } from "../scenarios/test-server.js";

const BUILD_TEST_SERVER = fileURLToPath(new URL("../scenarios/build-test-server.js", import.meta.url));

describe("the test server", () => {
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "runhub-"));
  });
  after(() => rm(folder, { recursive: true }));

  const script = (name: string, lines: string) =>
    writeFile(join(folder, name), `#!/bin/sh\n${lines}\n`, { mode: 0o755 }).then(() => join(folder, name));

  /** Runs build-test-server with a fake cargo, and returns the arguments with which build-test-server calls cargo. */
  async function readCargoCalls(env: Record<string, string>): Promise<string> {
    await script("cargo", `echo "$@" >>"${folder}/calls"`);
    await writeFile(join(folder, "calls"), "");
    await promisify(execFile)(process.execPath, [BUILD_TEST_SERVER], { env });
    return await readFile(join(folder, "calls"), "utf8");
  }

  it("is built before the tests", async () => {
    const calls = await readCargoCalls({ PATH: folder });
    assert.equal(calls, "--version\nbuild --release --locked --bin runhub --example test_server\n");
  });

  it("is not built if RUNHUB_TEST_SERVER is set or cargo is not installed", async () => {
    assert.equal(await readCargoCalls({ PATH: folder, RUNHUB_TEST_SERVER: "/there" }), "");
    assert.equal(await readCargoCalls({ PATH: "/nowhere" }), "");
  });

  it("reports the proxy's address, the binary and the server's own address", async () => {
    const file = await script("ready", "echo ready 127.0.0.1:1 /bin/runhub 127.0.0.1:2; read end");
    await using testServer = await TestServer.open(file);
    const { address, binary, direct } = testServer;
    assert.deepEqual([address, binary, direct], ["127.0.0.1:1", "/bin/runhub", "127.0.0.1:2"]);
  });

  it("is not ready if one of the two addresses or the binary is not reported", async () => {
    await assert.rejects(
      TestServer.open(await script("old", "echo ready 127.0.0.1:1 /bin/runhub")),
      /must print "ready ADDRESS BINARY DIRECT"/,
    );
  });
});
