import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import { describe, it } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { findOrBuildTestServer, isTestServerAvailable, TestServer } from "../scenarios/test-server.js";
import { parseAddress } from "../src/address.js";
import { Connections } from "../src/connections.js";
import { type Client, connect, seconds } from "../src/index.js";
import { EventService, ServerService, type SubscribeEventsResponseSchema } from "../src/v1.js";
import { catchError, Deferred, FakeServer, serveTasks, throwWhenAborted, until } from "./fake.js";

type Response = MessageInitShape<typeof SubscribeEventsResponseSchema>;
type StreamScript = (signal: AbortSignal) => AsyncIterable<Response>;

const caughtUp: Response = { message: { case: "caughtUp", value: { position: 1n } } };
const end: Response = { message: { case: "end", value: { position: 2n } } };

/** Sends one message and then keeps the stream open. */
const stayOpen: StreamScript = async function* (signal) {
  yield caughtUp;
  await throwWhenAborted(signal);
};

/** Keeps the stream open without a message, so that the client waits for the response to open the stream. */
// biome-ignore lint/correctness/useYield: the stream sends no message
const staySilent: StreamScript = async function* (signal) {
  await throwWhenAborted(signal);
};

/** Starts a server that runs the script for each stream, and that counts the open streams. */
async function serveStreams(script: StreamScript) {
  const streams = { open: 0 };
  const server = await FakeServer.start((router) => {
    router.service(ServerService, { getServerInfo: () => ({ logId: "log" }) });
    router.service(EventService, {
      async *subscribeEvents(_, { signal }) {
        streams.open += 1;
        try {
          yield* script(signal);
        } finally {
          streams.open -= 1;
        }
      },
    });
  });
  return { server, streams, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** Returns options that end each call after 10 s, because a call that waits for a connection would never end. */
function limitCalls() {
  const signal = AbortSignal.timeout(10_000);
  setMaxListeners(0, signal);
  return { signal };
}

/** Opens streams and reads the first message of each stream. The streams remain open until the client is closed. */
async function openStreams(client: Client, count: number): Promise<void> {
  const options = limitCalls();
  const streams = Array.from({ length: count }, () => client.events.subscribeEvents({}, options));
  await Promise.all(streams.map((stream) => stream[Symbol.asyncIterator]().next()));
}

async function readAll(messages: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of messages) {
    // Only the end of the stream matters.
  }
}

async function* requests() {
  yield {};
}

/** Calls the function a number of times, and each time waits until the function ends. */
async function repeatInTurn(times: number, work: () => Promise<unknown>): Promise<void> {
  for (let done = 0; done < times; done += 1) {
    await work();
  }
}

const isSkipped = !isTestServerAvailable() && process.env.CI === undefined;

describe("the connections of a client", () => {
  it("carry at most 100 streams each, and a call is answered while 1,100 streams are open", async () => {
    await using fake = await serveStreams(stayOpen);
    await using client = fake.server.connect();
    await openStreams(client, 1_100);
    await client.server.getServerInfo({}, limitCalls());
    assert.equal(fake.streams.open, 1_100);
    assert.equal(fake.server.accepted, 12);
  });

  it("carry 1,100 streams to a real server", { skip: isSkipped }, async () => {
    await using server = await TestServer.open(findOrBuildTestServer());
    await using client = connect(server.direct);
    await openStreams(client, 1_100);
    await client.server.getServerInfo({}, limitCalls());
  });

  it("carry at most 100 waiting calls each, and the first connection carries none", async () => {
    const answered = new Deferred();
    let waiting = 0;
    await using server = await serveTasks({
      async claimTask({ wait }) {
        if (wait?.seconds) {
          waiting += 1;
          await answered.promise;
        }
        return {};
      },
    });
    await using client = server.connect();
    const claim = (waitSeconds: number) =>
      client.tasks.claimTask({ agentId: "me", wait: seconds(waitSeconds) }, limitCalls());
    await claim(0);
    assert.equal(server.accepted, 1);
    const claims = Promise.all(Array.from({ length: 250 }, () => claim(60)));
    await until(() => waiting === 250);
    await claim(0);
    answered.resolve();
    await claims;
    assert.equal(server.accepted, 4);
    await Promise.all(Array.from({ length: 300 }, () => claim(60)));
    assert.equal(server.accepted, 4);
  });
});

describe("streams that nobody reads", () => {
  it("do not block other calls and streams on their connection", async () => {
    const windowBytes = 1024 * 1024;
    const eventBytes = 64 * 1024;
    const event: Response = { message: { case: "event", value: { message: "x".repeat(eventBytes) } } };
    let fullStreams = 0;
    let overfullStreams = 0;
    await using fake = await serveStreams(async function* () {
      for (let sentBytes = eventBytes; ; sentBytes += eventBytes) {
        yield event;
        // The script continues when the server has written the event. The last event does not fit into the window,
        // because the headers of the messages also need space.
        fullStreams += sentBytes === windowBytes - eventBytes ? 1 : 0;
        overfullStreams += sentBytes === windowBytes ? 1 : 0;
      }
    });
    await using client = fake.server.connect();
    await openStreams(client, 299);
    await until(() => fullStreams === 299);
    await client.server.getServerInfo({}, limitCalls());
    assert.equal(overfullStreams, 0);
    // This stream takes the last slot on a connection with 99 unread streams, and sends more than a window.
    const stream = client.events.subscribeEvents({}, limitCalls())[Symbol.asyncIterator]();
    await repeatInTurn((2 * windowBytes) / eventBytes, () => stream.next());
    assert.equal(fake.server.accepted, 4);
  });
});

describe("a slot on a connection", () => {
  it("is released when the stream ends", async () => {
    await using fake = await serveStreams(async function* () {
      yield end;
    });
    await using client = fake.server.connect();
    await repeatInTurn(1_000, () => readAll(client.events.subscribeEvents({})));
    assert.equal(fake.server.accepted, 1);
  });

  it("is released when the stream fails", async () => {
    await using fake = await serveStreams(async function* () {
      yield caughtUp;
      throw new ConnectError("down", Code.Unavailable);
    });
    await using client = fake.server.connect();
    await repeatInTurn(150, () => catchError(readAll(client.events.subscribeEvents({}))));
    assert.equal(fake.server.accepted, 1);
  });

  it("is released when the stream can't be opened", async () => {
    // This server answers a stream with the HTTP status 404, because it does not have the service.
    await using server = await serveTasks({});
    await using client = server.connect();
    await repeatInTurn(150, async () => {
      const error = await catchError(readAll(client.events.subscribeEvents({})));
      assert.equal(error.code, Code.Unimplemented);
    });
    assert.equal(server.accepted, 1);
  });

  it("is released when the caller aborts a stream that is not open yet", async () => {
    await using fake = await serveStreams(staySilent);
    await using client = fake.server.connect();
    await repeatInTurn(150, async () => {
      const caller = new AbortController();
      const error = catchError(readAll(client.events.subscribeEvents({}, { signal: caller.signal })));
      await until(() => fake.streams.open === 1);
      caller.abort();
      assert.equal((await error).code, Code.Canceled);
      await until(() => fake.streams.open === 0);
    });
    assert.equal(fake.server.accepted, 1);
  });

  it("is released when the loop over a subscription is left", async () => {
    await using fake = await serveStreams(stayOpen);
    await using client = fake.server.connect();
    await repeatInTurn(1_000, async () => {
      for await (const _ of client.subscribe()) {
        break;
      }
    });
    // One of the two connections carries the GetServerInfo calls of the subscriptions.
    assert.equal(fake.server.accepted, 2);
    await until(() => fake.streams.open === 0);
  });

  it("is released once when the reader leaves the messages, also before the first message", async () => {
    await using fake = await serveStreams(stayOpen);
    const connections = new Connections(parseAddress(`127.0.0.1:${fake.server.port}`), new AbortController().signal);
    const open = async () => {
      const method = EventService.method.subscribeEvents;
      const { message } = await connections.stream(method, undefined, undefined, undefined, requests());
      return message[Symbol.asyncIterator]();
    };
    await repeatInTurn(150, async () => {
      const messages = await open();
      await messages.return?.();
      await messages.return?.();
    });
    await until(() => fake.streams.open === 0);
    assert.equal(fake.server.accepted, 1);
    // If a slot were released twice, the first connection would have room for more than 100 streams.
    await repeatInTurn(101, open);
    assert.equal(fake.server.accepted, 2);
    connections.close();
  });

  it("is released when a waiting call is answered or fails", async () => {
    let isRefusing = false;
    await using server = await serveTasks({
      claimTask() {
        if (isRefusing) {
          throw new ConnectError("no such run", Code.NotFound);
        }
        return {};
      },
    });
    await using client = server.connect();
    const claim = () => client.tasks.claimTask({ agentId: "me", wait: seconds(60) });
    await repeatInTurn(150, claim);
    isRefusing = true;
    await repeatInTurn(150, () => catchError(claim()));
    assert.equal(server.accepted, 1);
  });
});
