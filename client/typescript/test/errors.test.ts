import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ConnectError } from "@connectrpc/connect";

import { Code, type Reason, RunhubError } from "../src/index.js";
import { ErrorReason, ErrorReasonSchema, EventService } from "../src/v1.js";
import { catchError, FakeServer, newRefusal, newRun, serveRunsAfterErrors } from "./fake.js";

describe("an error", () => {
  it("has all details of the server", async () => {
    const metadata = { verdict: "APPROVED" };
    const { server } = await serveRunsAfterErrors(
      newRefusal(Code.FailedPrecondition, "ALREADY_DECIDED", {
        metadata,
        fields: [{ field: "goal", description: "is blank" }],
        retryDelayMs: 250,
      }),
    );
    await using _server = server;
    await using client = server.connect();
    const error = await catchError(client.runs.createRun(newRun));
    assert.equal(error.reason, "ALREADY_DECIDED");
    assert.equal(error.code, Code.FailedPrecondition);
    assert.equal(error.message, "ALREADY_DECIDED: the fake server returned the error ALREADY_DECIDED");
    assert.deepEqual(error.metadata, metadata);
    assert.deepEqual(error.fields, [{ field: "goal", problem: "is blank" }]);
    assert.equal(error.retryDelayMs, 250);
    assert.equal(error.isTemporary, false);
  });

  it("keeps the text of an unknown reason", async () => {
    const { server } = await serveRunsAfterErrors(newRefusal(Code.FailedPrecondition, "REASON_OF_A_NEWER_SERVER"));
    await using _server = server;
    await using client = server.connect();
    assert.equal((await catchError(client.runs.createRun(newRun))).reason, "REASON_OF_A_NEWER_SERVER");
  });

  it("has no reason if it comes from another domain", async () => {
    const refusal = newRefusal(Code.NotFound, "ROUTE_NOT_FOUND", { domain: "proxy.example" });
    const { server } = await serveRunsAfterErrors(refusal);
    await using _server = server;
    await using client = server.connect();
    const error = await catchError(client.runs.createRun(newRun));
    assert.equal(error.reason, undefined);
    assert.equal(error.code, Code.NotFound);
  });

  it("without a reason is temporary if the connection may have broken", () => {
    const broken = [Code.Unavailable, Code.Internal, Code.Unknown, Code.Canceled, Code.Aborted];
    const codes = Object.values(Code).filter((code) => typeof code === "number");
    assert.equal(codes.length, 16);
    for (const code of codes) {
      const withoutReason = RunhubError.from(new ConnectError("from a proxy", code));
      assert.equal(withoutReason.isTemporary, broken.includes(code), `${Code[code]} without a reason`);
      const foreign = RunhubError.from(newRefusal(code, "NO_ROUTE", { domain: "proxy.example" }));
      assert.equal(foreign.isTemporary, broken.includes(code), `${Code[code]} with the reason of a proxy`);
      // A reason shows that the server itself has sent the error.
      const refusal = RunhubError.from(newRefusal(code, "REASON_OF_A_NEWER_SERVER"));
      assert.equal(refusal.isTemporary, code === Code.Unavailable, `${Code[code]} with a reason`);
    }
  });

  it("has a reason in a stream, before and after the first message", async () => {
    await using server = await FakeServer.start((router) =>
      router.service(EventService, {
        async *subscribeEvents({ runId }) {
          if (runId !== "") {
            yield {};
          }
          throw newRefusal(Code.NotFound, "RUN_NOT_FOUND");
        },
      }),
    );
    await using client = server.connect();
    const refused = client.events.subscribeEvents({})[Symbol.asyncIterator]();
    assert.equal((await catchError(refused.next())).reason, "RUN_NOT_FOUND");
    const deleted = client.events.subscribeEvents({ runId: "run" })[Symbol.asyncIterator]();
    await deleted.next();
    assert.equal((await catchError(deleted.next())).reason, "RUN_NOT_FOUND");
  });
});

describe("a reason", () => {
  const values = ErrorReasonSchema.values.filter(({ number }) => number !== ErrorReason.UNSPECIFIED);

  it("is known for every value of the enum, under its name without the prefix", () => {
    assert.ok(values.length > 0);
    for (const { name, number } of values) {
      const known = ErrorReason[number];
      assert.equal(`ERROR_REASON_${known}`, name);
      assert.equal(RunhubError.from(newRefusal(Code.FailedPrecondition, known ?? "")).reason, known);
    }
  });

  it("has a type of the names that the server can send", () => {
    const known: Reason = "STALE_LEASE";
    assert.equal(known, ErrorReason[ErrorReason.STALE_LEASE]);
    // @ts-expect-error: the server never sends UNSPECIFIED.
    const unspecified: Reason = "UNSPECIFIED";
    // @ts-expect-error: the enum has no value STALE_LEAS.
    const misspelled: Reason = "STALE_LEAS";
    assert.ok(unspecified !== misspelled);
  });
});
