/** A subscription that resumes by itself. */

import { create, type MessageInitShape, merge } from "@bufbuild/protobuf";
import { Code, createClient, type Client as ServiceClient } from "@connectrpc/connect";

import { OtherLog, RunhubError } from "./errors.js";
import { Limit } from "./limit.js";
import { ownCopy } from "./messages.js";
import { Backoff } from "./repeat.js";
import type { OnceTransport } from "./transports.js";
import {
  EndReason,
  EventService,
  type RunSnapshot,
  RunSnapshotSchema,
  ServerService,
  type SubscribeEventsRequest,
  SubscribeEventsRequestSchema,
  type SubscribeEventsResponse,
} from "./v1.js";

/** What `subscribe` can be told. */
export interface SubscriptionOptions {
  /** Ends the subscription: its loop throws a RunhubError with CANCELED. */
  signal?: AbortSignal;
  /** The `logId` of the subscription whose `position` it goes on from: with another server's log it ends as OtherLog. */
  logId?: string | undefined;
}

/**
 * Events without a gap or a duplicate, however often the connection breaks or the server restarts. To be iterated: each
 * message's `message.case` says what it is. Leaving the loop closes the stream; a later loop goes on after it.
 *
 * - `snapshot`, with FROM_SNAPSHOT: comes once, first and whole.
 * - `event` and `bookmark`.
 * - `caughtUp`: comes once; what follows is live.
 * - `end`: the run has ended or was deleted. Nothing follows.
 *
 * The loop throws a RunhubError for what does not pass (POSITION_COMPACTED, RUN_NOT_FOUND), and OtherLog.
 */
export class Subscription implements AsyncIterable<SubscribeEventsResponse> {
  readonly #closed: AbortSignal;
  readonly #deadlineMs: number;
  readonly #events: ServiceClient<typeof EventService>;
  readonly #server: ServiceClient<typeof ServerService>;
  readonly #request: SubscribeEventsRequest;
  readonly #signal: AbortSignal | undefined;
  /** Of the server it was subscribed to first, here or elsewhere. */
  #logId: string | undefined;
  /** What has come of the snapshot so far, while parts of it come. */
  #snapshot: RunSnapshot | undefined;
  #isCaughtUp = false;
  #isOver = false;

  /** @internal Use `Client.subscribe`. */
  constructor(
    once: OnceTransport,
    deadlineMs: number,
    request: MessageInitShape<typeof SubscribeEventsRequestSchema>,
    { signal, logId }: SubscriptionOptions,
  ) {
    this.#closed = once.closed;
    this.#deadlineMs = deadlineMs;
    this.#events = createClient(EventService, once);
    this.#server = createClient(ServerService, once);
    this.#request = ownCopy(SubscribeEventsRequestSchema, request);
    this.#signal = signal;
    this.#logId = logId;
  }

  /** The server's log that `position` is good for. Undefined before it is known. */
  get logId(): string | undefined {
    return this.#logId;
  }

  /** The cursor: the last position received. Undefined before the first message of a subscription without one. */
  get position(): bigint | undefined {
    return this.#request.afterPosition;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SubscribeEventsResponse, void, undefined> {
    using limit = new Limit(undefined, [this.#signal, this.#closed]);
    const backoff = new Backoff();
    while (!this.#isOver) {
      let met: RunhubError | undefined;
      try {
        for await (const response of this.#receive(limit.signal)) {
          backoff.reset();
          const update = this.#normalised(response);
          if (update !== undefined) {
            yield update;
          }
        }
      } catch (error) {
        met = passing(limit.error ?? error);
      }
      if (!this.#isOver) {
        await limit.pause(backoff.next(met));
      }
    }
  }

  /** One stream, from the cursor to its `end`; it is closed when nobody reads on. */
  async *#receive(signal: AbortSignal): AsyncGenerator<SubscribeEventsResponse, void, undefined> {
    const closing = new AbortController();
    const streamSignal = AbortSignal.any([signal, closing.signal]);
    try {
      await this.#checkLog(streamSignal);
      // Broken off within the snapshot it begins anew.
      this.#snapshot = undefined;
      for await (const response of this.#events.subscribeEvents(this.#request, { signal: streamSignal })) {
        yield response;
        if (response.message.case === "end") {
          return;
        }
      }
    } finally {
      closing.abort();
    }
  }

  /** A cursor is good for one log: after a restore, say, it would skip or repeat without a word. */
  async #checkLog(signal: AbortSignal): Promise<void> {
    const logId = await this.#serversLog(signal);
    this.#logId ??= logId;
    if (this.#logId !== logId) {
      throw new OtherLog();
    }
  }

  /** A server that does not say so within the deadline is asked again. */
  async #serversLog(signal: AbortSignal): Promise<string> {
    try {
      return (await this.#server.getServerInfo({}, { signal, timeoutMs: this.#deadlineMs })).logId;
    } catch (error) {
      if (error instanceof RunhubError && error.code === Code.DeadlineExceeded) {
        throw new RunhubError(error.message, error.code, { isPassing: true, cause: error });
      }
      throw error;
    }
  }

  /** Moves the cursor; returns what is to be shown of it. */
  #normalised(response: SubscribeEventsResponse): SubscribeEventsResponse | undefined {
    const { message } = response;
    if (message.case === "snapshot") {
      return this.#whole(response, message.value);
    }
    if (message.case === undefined) {
      return undefined;
    }
    this.#request.afterPosition = message.value.position;
    if (message.case === "caughtUp") {
      const isFirst = !this.#isCaughtUp;
      this.#isCaughtUp = true;
      return isFirst ? response : undefined;
    }
    if (message.case === "end") {
      // After DRAINING its successor goes on from here.
      this.#isOver = message.value.reason !== EndReason.DRAINING;
      return this.#isOver ? response : undefined;
    }
    return response;
  }

  /** The whole snapshot, once its last part has come: the only one with a position. */
  #whole(response: SubscribeEventsResponse, part: RunSnapshot): SubscribeEventsResponse | undefined {
    const snapshot = this.#snapshot ?? create(RunSnapshotSchema);
    merge(RunSnapshotSchema, snapshot, part);
    if (part.position === 0n) {
      this.#snapshot = snapshot;
      return undefined;
    }
    this.#request.afterPosition = part.position;
    return { ...response, message: { case: "snapshot", value: snapshot } };
  }
}

function passing(error: unknown): RunhubError {
  if (error instanceof RunhubError && error.isPassing) {
    return error;
  }
  throw error;
}
