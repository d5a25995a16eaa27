import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Code } from "../src/index.js";
import { EventService } from "../src/v1.js";
import { errorOf, FakeServer, flaky, newRun, refusal } from "./fake.js";

describe("an error", () => {
  it("carries what the server says", async () => {
    const metadata = { verdict: "APPROVED" };
    const { server } = await flaky(
      refusal(Code.FailedPrecondition, "ALREADY_DECIDED", {
        metadata,
        fields: [{ field: "goal", description: "it is blank" }],
        retryDelayMs: 250,
      }),
    );
    await using _server = server;
    await using client = server.connect();
    const error = await errorOf(client.runs.createRun(newRun));
    assert.equal(error.reason, "ALREADY_DECIDED");
    assert.equal(error.code, Code.FailedPrecondition);
    assert.equal(error.message, "ALREADY_DECIDED: no");
    assert.deepEqual(error.metadata, metadata);
    assert.deepEqual(error.fields, [{ field: "goal", problem: "it is blank" }]);
    assert.equal(error.retryDelayMs, 250);
    assert.equal(error.isPassing, false);
  });

  it("keeps a reason that is not known yet", async () => {
    const { server } = await flaky(refusal(Code.FailedPrecondition, "MOON_FULL"));
    await using _server = server;
    await using client = server.connect();
    assert.equal((await errorOf(client.runs.createRun(newRun))).reason, "MOON_FULL");
  });

  it("has no reason when it is somebody else's", async () => {
    const { server } = await flaky(refusal(Code.NotFound, "ROUTE_NOT_FOUND", { domain: "a.proxy" }));
    await using _server = server;
    await using client = server.connect();
    const error = await errorOf(client.runs.createRun(newRun));
    assert.equal(error.reason, undefined);
    assert.equal(error.code, Code.NotFound);
  });

  it("is given for a stream, too, at its begin and later", async () => {
    await using server = await FakeServer.start((router) =>
      router.service(EventService, {
        async *subscribeEvents({ runId }) {
          if (runId !== "") {
            yield {};
          }
          throw refusal(Code.NotFound, "RUN_NOT_FOUND");
        },
      }),
    );
    await using client = server.connect();
    const refused = client.events.subscribeEvents({})[Symbol.asyncIterator]();
    assert.equal((await errorOf(refused.next())).reason, "RUN_NOT_FOUND");
    const deleted = client.events.subscribeEvents({ runId: "run" })[Symbol.asyncIterator]();
    await deleted.next();
    assert.equal((await errorOf(deleted.next())).reason, "RUN_NOT_FOUND");
  });
});
