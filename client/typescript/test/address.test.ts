import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import type { ListenOptions } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";

import { Code, connect, RunhubError } from "../src/index.js";
import { ServerService } from "../src/v1.js";
import { FakeServer } from "./fake.js";

/** Starts a fake server that answers GetServerInfo. */
const start = (listen?: ListenOptions) =>
  FakeServer.start((router) => router.service(ServerService, { getServerInfo: () => ({ version: "fake" }) }), listen);

describe("connect", () => {
  for (const prefix of ["127.0.0.1:", "http://127.0.0.1:", "localhost:"]) {
    it(`accepts ${prefix}PORT`, async () => {
      await using server = await start();
      await using client = connect(`${prefix}${server.port}`);
      assert.equal((await client.server.getServerInfo({})).version, "fake");
    });
  }

  it("accepts a unix socket", async () => {
    const folder = await mkdtemp(join(tmpdir(), "runhub-"));
    const path = join(folder, "runhub.sock");
    {
      await using _server = await start({ path });
      await using client = connect(`unix:${path}`);
      assert.equal((await client.server.getServerInfo({})).version, "fake");
    }
    await rm(folder, { recursive: true });
  });

  for (const wrong of ["", "unix:", "localhost", "https://a:1", "a:b", "a:70000", "http://a:1/path", "user@a:1"]) {
    it(`rejects "${wrong}"`, () => {
      assert.throws(
        () => connect(wrong),
        (error) => {
          assert.ok(error instanceof RunhubError);
          assert.equal(error.code, Code.InvalidArgument);
          const forms = "HOST:PORT, http://HOST:PORT or unix:PATH";
          assert.equal(error.message, `"${wrong}" is not a valid server address: use ${forms}`);
          return true;
        },
      );
    });
  }
});
