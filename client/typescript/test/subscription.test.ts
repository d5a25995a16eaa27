import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";

import { OtherLog, RunhubError } from "../src/index.js";
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
import { FakeServer, Gate, never, refusal } from "./fake.js";

type Response = MessageInitShape<typeof SubscribeEventsResponseSchema>;
type Stream = (request: SubscribeEventsRequest, context: HandlerContext) => AsyncIterable<Response>;

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
const over = (position: number) => end(EndReason.RUN_ENDED, position);

/** What breaks a stream so that it goes on. */
const broken = () => new ConnectError("away", Code.Unavailable);

/** A server whose streams are these, one after the other; it keeps the requests. */
async function streams(scripts: Stream[], logIds: string[] = []) {
  const requests: SubscribeEventsRequest[] = [];
  const server = await FakeServer.start((router) => {
    router.service(ServerService, { getServerInfo: () => ({ logId: logIds.shift() ?? "log" }) });
    router.service(EventService, {
      subscribeEvents(request, context) {
        requests.push(request);
        const script = scripts.shift() ?? assert.fail("one stream too many");
        return script(request, context);
      },
    });
  });
  return { server, requests, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** A stream that sends these and ends, with an error if there is one. */
function sends(responses: Response[], error?: ConnectError): Stream {
  return async function* () {
    yield* responses;
    if (error !== undefined) {
      throw error;
    }
  };
}

const shown = ({ message }: SubscribeEventsResponse) =>
  message.case === undefined ? "nothing" : `${message.case} ${message.value.position}`;

async function all(updates: AsyncIterable<SubscribeEventsResponse>): Promise<string[]> {
  const came: string[] = [];
  for await (const update of updates) {
    came.push(shown(update));
  }
  return came;
}

describe("a subscription", () => {
  it("goes on after the last position received, in whatever message, and is caught up once", async () => {
    await using fake = await streams([
      sends([event(1), event(3)], broken()),
      sends([caughtUp(4)]),
      sends([caughtUp(4), bookmark(7)], new ConnectError("reset", Code.Aborted)),
      sends([event(8), caughtUp(8), over(9)]),
    ]);
    await using client = fake.server.connect();
    const subscription = client.subscribe({ runId: "run", kinds: ["step_*"] });
    assert.equal(subscription.position, undefined);
    assert.deepEqual(await all(subscription), ["event 1", "event 3", "caughtUp 4", "bookmark 7", "event 8", "end 9"]);
    assert.deepEqual(
      fake.requests.map(({ afterPosition }) => afterPosition),
      [undefined, 3n, 4n, 7n],
    );
    assert.ok(fake.requests.every(({ runId, kinds }) => runId === "run" && kinds[0] === "step_*"));
    assert.equal(subscription.position, 9n);
  });

  it("goes on when the connection is cut", async () => {
    const staying: Stream = async function* (_, { signal }) {
      yield event(1);
      await never(signal);
    };
    await using fake = await streams([staying, sends([over(2)])]);
    await using client = fake.server.connect();
    const came: string[] = [];
    for await (const update of client.subscribe({ afterPosition: 0n })) {
      came.push(shown(update));
      fake.server.cut();
    }
    assert.deepEqual(came, ["event 1", "end 2"]);
    assert.equal(fake.requests[1]?.afterPosition, 1n);
  });

  it("leaves the caller's request as it is", async () => {
    await using fake = await streams([sends([over(9)])]);
    await using client = fake.server.connect();
    const request = create(SubscribeEventsRequestSchema, { runId: "run" });
    await all(client.subscribe(request));
    assert.equal(request.afterPosition, undefined);
  });

  it("puts a snapshot together, anew when it was broken off", async () => {
    const begun = part({ run: { goal: "goal" }, completedTasks: [{ id: "a" }] });
    const last = part({ completedTasks: [{ id: "b" }], agents: [{ role: "checker" }], position: 5n });
    await using fake = await streams([
      sends([begun], broken()),
      sends([begun, last, caughtUp(5)], broken()),
      sends([over(6)]),
    ]);
    await using client = fake.server.connect();
    const came: SubscribeEventsResponse[] = [];
    for await (const update of client.subscribe({ runId: "run", start: SubscribeStart.FROM_SNAPSHOT })) {
      came.push(update);
    }
    assert.deepEqual(came.map(shown), ["snapshot 5", "caughtUp 5", "end 6"]);
    const message = came[0]?.message;
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

  it("does not show DRAINING, and goes on with the successor", async () => {
    await using fake = await streams([
      sends([event(1), end(EndReason.DRAINING, 2)], refusal(Code.Unavailable, "DRAINING")),
      sends([end(EndReason.RUN_DELETED, 3)]),
    ]);
    await using client = fake.server.connect();
    assert.deepEqual(await all(client.subscribe()), ["event 1", "end 3"]);
    assert.equal(fake.requests[1]?.afterPosition, 2n);
  });

  it("throws what does not pass", async () => {
    const refused = refusal(Code.OutOfRange, "POSITION_COMPACTED", { metadata: { oldest_position: "9" } });
    await using fake = await streams([sends([], refused)]);
    await using client = fake.server.connect();
    await assert.rejects(all(client.subscribe({ afterPosition: 1n })), (error) => {
      assert.ok(error instanceof RunhubError);
      assert.equal(error.reason, "POSITION_COMPACTED");
      assert.equal(error.metadata.oldest_position, "9");
      return true;
    });
    assert.equal(fake.requests.length, 1);
  });

  it("throws OtherLog when the server has another database than before", async () => {
    await using fake = await streams([sends([event(5)], broken())], ["log", "another"]);
    await using client = fake.server.connect();
    await assert.rejects(all(client.subscribe()), OtherLog);
    assert.equal(fake.requests.length, 1);
  });

  it("shows its logId beside the position, and goes on with both elsewhere", async () => {
    await using fake = await streams([sends([event(5), over(6)]), sends([over(7)])]);
    await using client = fake.server.connect();
    const first = client.subscribe();
    assert.equal(first.logId, undefined);
    await all(first);
    assert.equal(first.logId, "log");
    const further = client.subscribe({ afterPosition: first.position ?? 0n }, { logId: first.logId });
    assert.equal(further.logId, "log");
    assert.deepEqual(await all(further), ["end 7"]);
  });

  it("throws OtherLog before anything is shown when its logId is not the server's", async () => {
    await using fake = await streams([]);
    await using client = fake.server.connect();
    await assert.rejects(all(client.subscribe({ afterPosition: 5n }, { logId: "mine" })), OtherLog);
    assert.equal(fake.requests.length, 0);
  });

  it("asks for the log again when it is not told within the client's deadline", async () => {
    let asked = 0;
    await using server = await FakeServer.start((router) => {
      router.service(ServerService, {
        async getServerInfo(_, { signal }) {
          asked += 1;
          return asked === 1 ? await never(signal) : { logId: "log" };
        },
      });
      router.service(EventService, { subscribeEvents: sends([over(1)]) });
    });
    await using client = server.connect({ deadlineMs: 1_000 });
    assert.deepEqual(await all(client.subscribe()), ["end 1"]);
    assert.equal(asked, 2);
  });

  it("waits no less than it is told", async () => {
    const retryDelayMs = 300;
    await using fake = await streams([
      sends([], refusal(Code.ResourceExhausted, "OVERLOADED", { retryDelayMs })),
      sends([over(1)]),
    ]);
    await using client = fake.server.connect();
    const begin = performance.now();
    await all(client.subscribe());
    assert.ok(performance.now() - begin >= retryDelayMs - 1);
  });

  /** A stream that sends one event and stays; it tells when it is closed. */
  function staying() {
    const closed = new Gate();
    const stream: Stream = async function* (_, { signal }) {
      signal.addEventListener("abort", () => closed.resolve());
      yield event(1);
      await never(signal);
    };
    return { stream, closed: closed.opened };
  }

  it("closes its stream when the loop is left, and goes on in the next one", async () => {
    const { stream, closed } = staying();
    await using fake = await streams([stream, sends([over(2)])]);
    await using client = fake.server.connect();
    const subscription = client.subscribe();
    for await (const update of subscription) {
      assert.equal(shown(update), "event 1");
      break;
    }
    await closed;
    assert.deepEqual(await all(subscription), ["end 2"]);
    assert.equal(fake.requests[1]?.afterPosition, 1n);
  });

  it("ends with CANCELED, and closes its stream, when its signal is aborted", async () => {
    const { stream, closed } = staying();
    await using fake = await streams([stream]);
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
