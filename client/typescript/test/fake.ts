/** This module runs a fake server in the test's process. Each test chooses the answers of the server. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Http2Server } from "node:http2";
import type { AddressInfo, ListenOptions, Socket } from "node:net";

import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type Code, ConnectError, type ConnectRouter, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { type Client, type ConnectOptions, connect, RunhubError } from "../src/index.js";
import { RunService, TaskService } from "../src/v1.js";

/** Maximum number of open calls and streams on one connection, as in a Runhub server. */
const STREAMS_PER_CONNECTION = 1_024;

export class FakeServer implements AsyncDisposable {
  readonly #server: Http2Server;
  /** The number of connections that clients have opened, including closed connections. */
  accepted = 0;
  /** The open connections from clients to this server. */
  readonly sockets = new Set<Socket>();

  private constructor(server: Http2Server) {
    this.#server = server;
    server.on("connection", (socket: Socket) => {
      this.accepted += 1;
      this.sockets.add(socket);
      socket.once("close", () => this.sockets.delete(socket));
    });
  }

  static async start(
    routes: (router: ConnectRouter) => void,
    listen: ListenOptions = { host: "127.0.0.1", port: 0 },
  ): Promise<FakeServer> {
    const settings = { maxConcurrentStreams: STREAMS_PER_CONNECTION };
    // A Runhub server does not compress responses either.
    const handler = connectNodeAdapter({ routes, acceptCompression: [] });
    const fake = new FakeServer(createServer({ settings }, handler));
    fake.#server.listen(listen);
    await once(fake.#server, "listening");
    return fake;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Returns a client of this server. */
  connect(options?: ConnectOptions): Client {
    return connect(`127.0.0.1:${this.port}`, options);
  }

  /** Closes all connections, as if the server were killed. */
  cut(): void {
    for (const socket of this.sockets) {
      socket.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.cut();
    await closed;
  }
}

interface RefusalDetails {
  metadata?: Record<string, string>;
  fields?: { field: string; description: string }[];
  retryDelayMs?: number;
  domain?: string;
}

/** Returns an error with the details that a Runhub server sends. */
export function newRefusal(code: Code, reason: string, details: RefusalDetails = {}): ConnectError {
  const { metadata = {}, fields, retryDelayMs, domain = "runhub" } = details;
  return new ConnectError(`the fake server returned the error ${reason}`, code, undefined, [
    { desc: ErrorInfoSchema, value: { reason, domain, metadata } },
    ...(fields ? [{ desc: BadRequestSchema, value: { fieldViolations: fields } }] : []),
    ...(retryDelayMs ? [{ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(retryDelayMs) } }] : []),
  ]);
}

/** Waits until the signal is aborted, and then throws the signal's reason. */
export async function throwWhenAborted(signal: AbortSignal): Promise<never> {
  if (!signal.aborted) {
    await once(signal, "abort");
  }
  throw signal.reason;
}

/** Waits until the condition is true. Fails the test if the condition is not true within 10 s. */
export async function until(condition: () => boolean): Promise<void> {
  const limit = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < limit, `the condition ${condition} was not true within 10 s`);
    await new Promise(setImmediate);
  }
}

/** Holds a promise that a test can resolve. */
export class Deferred<T = void> {
  resolve!: (value: T) => void;
  readonly promise = new Promise<T>((resolve) => {
    this.resolve = resolve;
  });
}

type RunHandlers = Partial<ServiceImpl<typeof RunService>>;
export type TaskHandlers = Partial<ServiceImpl<typeof TaskService>>;

export const serveRuns = (runs: RunHandlers) => FakeServer.start((router) => router.service(RunService, runs));
export const serveTasks = (tasks: TaskHandlers) => FakeServer.start((router) => router.service(TaskService, tasks));

/** Returns the RunhubError of a call. Fails the test if the call succeeds or throws another error. */
export async function catchError(call: Promise<unknown>): Promise<RunhubError> {
  const error = await call.then(
    () => undefined,
    (error) => error,
  );
  assert.ok(error instanceof RunhubError, `expected a RunhubError, got ${error}`);
  return error;
}

/**
 * Starts a server for CreateRun that fails the first calls with `errors`, in order, and answers all further calls. For
 * the error `cut`, the server closes the connection. Returns the server, and the request_ids and times of all received
 * calls.
 */
export async function serveRunsAfterErrors(...errors: (ConnectError | "cut")[]) {
  const ids: string[] = [];
  const times: number[] = [];
  const server = await serveRuns({
    createRun({ requestId }) {
      ids.push(requestId);
      times.push(performance.now());
      const error = errors.shift();
      if (error === "cut") {
        server.cut();
      } else if (error !== undefined) {
        throw error;
      }
      return { run: { id: "run" } };
    },
  });
  return { server, ids, times };
}

export const newRun = { goal: "goal", repoPath: "/repo" };
