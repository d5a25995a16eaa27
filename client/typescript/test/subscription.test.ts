import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";

import { RunhubError } from "../src/index.js";
import {
  EndReason,
  EventService,
  type RunSnapshotSchema,
  ServerService,
  type SubscribeEventsRequest,
  SubscribeEventsRequestSchema,
  type SubscribeEventsResponse,
  type SubscribeEventsResponseSchema,
  SubscribeStart,
} from "../src/v1.js";
import { Deferred, FakeServer, newRefusal, throwWhenAborted } from "./fake.js";

type Response = MessageInitShape<typeof SubscribeEventsResponseSchema>;
type StreamScript = (request: SubscribeEventsRequest, context: HandlerContext) => AsyncIterable<Response>;

const event = (position: number): Response => ({ message: { case: "event", value: { position: BigInt(position) } } });
const bookmark = (position: number): Response => ({
  message: { case: "bookmark", value: { position: BigInt(position) } },
});
const caughtUp = (position: number): Response => ({
  message: { case: "caughtUp", value: { position: BigInt(position) } },
});
const end = (reason: EndReason, position: number): Response => ({
  message: { case: "end", value: { reason, position: BigInt(position) } },
});
const part = (value: MessageInitShape<typeof RunSnapshotSchema>): Response => ({
  message: { case: "snapshot", value },
});
const runEnded = (position: number) => end(EndReason.RUN_ENDED, position);

/** Returns an error after which a subscription resumes. */
const broken = () => new ConnectError("down", Code.Unavailable);

/** Starts a server that runs one script for each stream, and records the requests of the streams. */
async function serveStreams(scripts: StreamScript[], logIds: string[] = []) {
  const requests: SubscribeEventsRequest[] = [];
  const server = await FakeServer.start((router) => {
    router.service(ServerService, { getServerInfo: () => ({ logId: logIds.shift() ?? "log" }) });
    router.service(EventService, {
      subscribeEvents(request, context) {
        requests.push(request);
        const script = scripts.shift() ?? assert.fail("there are more streams than scripts");
        return script(request, context);
      },
    });
  });
  return { server, requests, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/**
 * Returns a script that sends the responses and then ends the stream. If `error` is defined, the stream fails with
 * `error`.
 */
function sendThenEnd(responses: Response[], error?: ConnectError): StreamScript {
  return async function* () {
    yield* responses;
    if (error !== undefined) {
      throw error;
    }
  };
}

/** Returns the kind and the position of an update. */
const summary = ({ message }: SubscribeEventsResponse) =>
  message.case === undefined ? "no message" : `${message.case} ${message.value.position}`;

const logAndCursor = ({ logId, afterPosition }: SubscribeEventsRequest) => [logId, afterPosition];

const isLogChanged = (error: unknown) => error instanceof RunhubError && error.reason === "LOG_CHANGED";

/** Reads a subscription until the subscription ends, and returns a summary of each update. */
async function readAll(updates: AsyncIterable<SubscribeEventsResponse>): Promise<string[]> {
  const received: string[] = [];
  for await (const update of updates) {
    received.push(summary(update));
  }
  return received;
}

describe("a subscription", () => {
  it("resumes after the last position of any message and yields caughtUp once", async () => {
    await using fake = await serveStreams([
      sendThenEnd([event(1), event(3)], broken()),
      sendThenEnd([caughtUp(4)]),
      sendThenEnd([caughtUp(4), bookmark(7)], new ConnectError("reset", Code.Aborted)),
      sendThenEnd([], new ConnectError("a proxy has reset the stream", Code.Internal)),
      sendThenEnd([], new ConnectError("a proxy has sent an HTML page", Code.Unknown)),
      sendThenEnd([], new ConnectError("a proxy has cancelled the stream", Code.Canceled)),
      sendThenEnd([event(8), caughtUp(8), runEnded(9)]),
    ]);
    await using client = fake.server.connect();
    const subscription = client.subscribe({ runId: "run", kinds: ["step_*"] });
    assert.equal(subscription.position, undefined);
    assert.deepEqual(await readAll(subscription), [
      "event 1",
      "event 3",
      "caughtUp 4",
      "bookmark 7",
      "event 8",
      "end 9",
    ]);
    assert.deepEqual(
      fake.requests.map(({ afterPosition }) => afterPosition),
      [undefined, 3n, 4n, 7n, 7n, 7n, 7n],
    );
    assert.ok(fake.requests.every(({ runId, kinds }) => runId === "run" && kinds[0] === "step_*"));
    assert.equal(subscription.position, 9n);
  });

  it("resumes after a broken connection", async () => {
    const open: StreamScript = async function* (_, { signal }) {
      yield event(1);
      await throwWhenAborted(signal);
    };
    await using fake = await serveStreams([open, sendThenEnd([runEnded(2)])]);
    await using client = fake.server.connect();
    const received: string[] = [];
    for await (const update of client.subscribe({ afterPosition: 0n })) {
      received.push(summary(update));
      fake.server.cut();
    }
    assert.deepEqual(received, ["event 1", "end 2"]);
    assert.equal(fake.requests[1]?.afterPosition, 1n);
  });

  it("does not change the caller's request", async () => {
    await using fake = await serveStreams([sendThenEnd([runEnded(9)])]);
    await using client = fake.server.connect();
    const request = create(SubscribeEventsRequestSchema, { runId: "run" });
    await readAll(client.subscribe(request));
    assert.equal(request.afterPosition, undefined);
  });

  it("joins the parts of a snapshot and starts again if the stream breaks within it", async () => {
    const first = part({ run: { goal: "goal" }, completedTasks: [{ id: "a" }] });
    const last = part({ completedTasks: [{ id: "b" }], agents: [{ role: "checker" }], position: 5n });
    await using fake = await serveStreams([
      sendThenEnd([first], broken()),
      sendThenEnd([first, last, caughtUp(5)], broken()),
      sendThenEnd([runEnded(6)]),
    ]);
    await using client = fake.server.connect();
    const received: SubscribeEventsResponse[] = [];
    for await (const update of client.subscribe({ runId: "run", start: SubscribeStart.FROM_SNAPSHOT })) {
      received.push(update);
    }
    assert.deepEqual(received.map(summary), ["snapshot 5", "caughtUp 5", "end 6"]);
    const message = received[0]?.message;
    assert.ok(message?.case === "snapshot");
    assert.equal(message.value.run?.goal, "goal");
    assert.deepEqual(
      message.value.completedTasks.map(({ id }) => id),
      ["a", "b"],
    );
    assert.equal(message.value.agents[0]?.role, "checker");
    assert.deepEqual(
      fake.requests.map(({ afterPosition }) => afterPosition),
      [undefined, undefined, 5n],
    );
  });

  it("does not yield DRAINING and resumes at the next server", async () => {
    await using fake = await serveStreams([
      sendThenEnd([event(1), end(EndReason.DRAINING, 2)], newRefusal(Code.Unavailable, "DRAINING")),
      sendThenEnd([end(EndReason.RUN_DELETED, 3)]),
    ]);
    await using client = fake.server.connect();
    assert.deepEqual(await readAll(client.subscribe()), ["event 1", "end 3"]);
    assert.equal(fake.requests[1]?.afterPosition, 2n);
  });

  it("throws an error that is not temporary", async () => {
    const refused = newRefusal(Code.OutOfRange, "POSITION_COMPACTED", { metadata: { oldest_position: "9" } });
    await using fake = await serveStreams([sendThenEnd([], refused)]);
    await using client = fake.server.connect();
    await assert.rejects(readAll(client.subscribe({ afterPosition: 1n })), (error) => {
      assert.ok(error instanceof RunhubError);
      assert.equal(error.reason, "POSITION_COMPACTED");
      assert.equal(error.metadata.oldest_position, "9");
      return true;
    });
    assert.equal(fake.requests.length, 1);
  });

  it("names the log of the first stream in every request and throws LOG_CHANGED", async () => {
    await using fake = await serveStreams(
      [
        sendThenEnd([event(5)], newRefusal(Code.Unavailable, "STORE_FULL", { retryDelayMs: 1 })),
        sendThenEnd([], newRefusal(Code.FailedPrecondition, "LOG_CHANGED")),
      ],
      ["log", "another"],
    );
    await using client = fake.server.connect();
    const subscription = client.subscribe();
    await assert.rejects(readAll(subscription), isLogChanged);
    assert.equal(subscription.position, 5n);
    assert.deepEqual(fake.requests.map(logAndCursor), [
      ["log", undefined],
      ["log", 5n],
    ]);
  });

  it("has a logId and a position with which another subscription continues", async () => {
    await using fake = await serveStreams([sendThenEnd([event(5), runEnded(6)]), sendThenEnd([runEnded(7)])]);
    await using client = fake.server.connect();
    const first = client.subscribe();
    assert.equal(first.logId, undefined);
    await readAll(first);
    assert.equal(first.logId, "log");
    const second = client.subscribe({ afterPosition: first.position, logId: first.logId });
    assert.equal(second.logId, "log");
    assert.deepEqual(await readAll(second), ["end 7"]);
    assert.deepEqual(fake.requests.map(logAndCursor), [
      ["log", undefined],
      ["log", 6n],
    ]);
  });

  it("throws LOG_CHANGED before any update if the logId of the request is not the server's", async () => {
    await using fake = await serveStreams([sendThenEnd([], newRefusal(Code.FailedPrecondition, "LOG_CHANGED"))]);
    await using client = fake.server.connect();
    await assert.rejects(readAll(client.subscribe({ afterPosition: 5n, logId: "another" })), isLogChanged);
    assert.deepEqual(fake.requests.map(logAndCursor), [["another", 5n]]);
  });

  it("reads the log_id again if the first call reaches the client's deadline", async () => {
    let reads = 0;
    await using server = await FakeServer.start((router) => {
      router.service(ServerService, {
        async getServerInfo(_, { signal }) {
          reads += 1;
          return reads === 1 ? await throwWhenAborted(signal) : { logId: "log" };
        },
      });
      router.service(EventService, { subscribeEvents: sendThenEnd([runEnded(1)]) });
    });
    await using client = server.connect({ deadlineMs: 1_000 });
    assert.deepEqual(await readAll(client.subscribe()), ["end 1"]);
    assert.equal(reads, 2);
  });

  it("waits at least the retry delay before the next stream", async () => {
    const retryDelayMs = 300;
    await using fake = await serveStreams([
      sendThenEnd([], newRefusal(Code.ResourceExhausted, "OVERLOADED", { retryDelayMs })),
      sendThenEnd([runEnded(1)]),
    ]);
    await using client = fake.server.connect();
    const begin = performance.now();
    await readAll(client.subscribe());
    assert.ok(performance.now() - begin >= retryDelayMs - 1);
  });

  /**
   * Returns a script that sends one event and keeps the stream open, and a promise that resolves when the stream is
   * closed.
   */
  function openStream() {
    const closed = new Deferred();
    const stream: StreamScript = async function* (_, { signal }) {
      signal.addEventListener("abort", () => closed.resolve());
      yield event(1);
      await throwWhenAborted(signal);
    };
    return { stream, closed: closed.promise };
  }

  it("closes its stream when the loop is left and resumes in a later loop", async () => {
    const { stream, closed } = openStream();
    await using fake = await serveStreams([stream, sendThenEnd([runEnded(2)])]);
    await using client = fake.server.connect();
    const subscription = client.subscribe();
    for await (const update of subscription) {
      assert.equal(summary(update), "event 1");
      break;
    }
    await closed;
    assert.deepEqual(await readAll(subscription), ["end 2"]);
    assert.equal(fake.requests[1]?.afterPosition, 1n);
  });

  it("ends with CANCELED and closes its stream when its signal is aborted", async () => {
    const { stream, closed } = openStream();
    await using fake = await serveStreams([stream]);
    await using client = fake.server.connect();
    const stop = new AbortController();
    const loop = (async () => {
      for await (const _ of client.subscribe({}, { signal: stop.signal })) {
        stop.abort();
      }
    })();
    await assert.rejects(loop, (error) => error instanceof RunhubError && error.code === Code.Canceled);
    await closed;
  });
});
