/** This module defines subscriptions, which resume after broken connections. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, createClient, type Client as ServiceClient } from "@connectrpc/connect";

import { RunhubError } from "./errors.js";
import { Limit } from "./limit.js";
import { Backoff } from "./repeat.js";
import { SubscriptionState } from "./subscription-state.js";
import type { NoRetryTransport } from "./transports.js";
import { EventService, ServerService, type SubscribeEventsRequestSchema, type SubscribeEventsResponse } from "./v1.js";

/** The options of `subscribe`. */
export interface SubscriptionOptions {
  /**
   * The signal that ends the subscription when the signal is aborted. The loop over the subscription then throws a
   * RunhubError with CANCELLED.
   */
  signal?: AbortSignal;
}

/**
 * A stream of events that misses no event and repeats no event, even if the connection breaks or the server restarts.
 * Iterate over the subscription to receive updates. The `message.case` of an update is the kind of the message. If the
 * caller leaves the loop, the stream closes. A later loop resumes the stream.
 *
 * - `snapshot`: The whole state of the run. If the `start` of the request is FROM_SNAPSHOT, this update is the first,
 *   and the subscription yields the update once.
 * - `event`: An event that matches the request.
 * - `bookmark`: The subscription has yielded every matching event up to the position of the bookmark.
 * - `caughtUp`: The subscription has yielded every stored event, and the following events are live. The subscription
 *   yields this update once.
 * - `end`: The run has ended or was deleted. This update is the last.
 *
 * If an error is not temporary (for example POSITION_COMPACTED or RUN_NOT_FOUND), the loop throws a RunhubError. If the
 * server has another log than the log of the cursor, the reason is LOG_CHANGED.
 */
export class Subscription implements AsyncIterable<SubscribeEventsResponse> {
  readonly #closed: AbortSignal;
  readonly #deadlineMs: number;
  readonly #events: ServiceClient<typeof EventService>;
  readonly #server: ServiceClient<typeof ServerService>;
  readonly #signal: AbortSignal | undefined;
  readonly #state: SubscriptionState;

  /** @internal Call `Client.subscribe` to create a subscription. */
  constructor(
    single: NoRetryTransport,
    deadlineMs: number,
    request: MessageInitShape<typeof SubscribeEventsRequestSchema>,
    { signal }: SubscriptionOptions,
  ) {
    this.#closed = single.closed;
    this.#deadlineMs = deadlineMs;
    this.#events = createClient(EventService, single);
    this.#server = createClient(ServerService, single);
    this.#signal = signal;
    this.#state = new SubscriptionState(request);
  }

  /**
   * The id of the log in which `position` is valid. Before the first stream is opened, `logId` has the value from the
   * request, or is undefined.
   */
  get logId(): string | undefined {
    return this.#state.logId;
  }

  /**
   * The cursor, which is the last received position. Before the first message, the cursor is the request's cursor. If
   * the request has no cursor, `position` is undefined until the first message.
   */
  get position(): bigint | undefined {
    return this.#state.position;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SubscribeEventsResponse, void, undefined> {
    using limit = new Limit(undefined, [this.#signal, this.#closed]);
    const backoff = new Backoff();
    while (!this.#state.hasEnded) {
      let lastError: RunhubError | undefined;
      try {
        for await (const response of this.#openStream(limit.signal)) {
          backoff.reset();
          const update = this.#state.receive(response);
          if (update !== undefined) {
            yield update;
          }
        }
      } catch (error) {
        lastError = requireTemporaryError(limit.error ?? error);
      }
      if (!this.#state.hasEnded) {
        await limit.pause(backoff.next(lastError));
      }
    }
  }

  /**
   * Yields the messages of one stream up to the message `end`. If the caller stops reading, the function closes the
   * stream.
   */
  async *#openStream(signal: AbortSignal): AsyncGenerator<SubscribeEventsResponse, void, undefined> {
    const closing = new AbortController();
    const streamSignal = AbortSignal.any([signal, closing.signal]);
    try {
      if (this.#state.logId === undefined) {
        this.#state.setLog(await this.#readLogId(streamSignal));
      }
      const request = this.#state.nextRequest();
      for await (const response of this.#events.subscribeEvents(request, { signal: streamSignal })) {
        yield response;
        if (response.message.case === "end") {
          return;
        }
      }
    } finally {
      closing.abort();
    }
  }

  /**
   * Returns the id of the server's current log. A subscription has no deadline, so the function marks DEADLINE_EXCEEDED
   * as temporary.
   */
  async #readLogId(signal: AbortSignal): Promise<string> {
    try {
      const info = await this.#server.getServerInfo({}, { signal, timeoutMs: this.#deadlineMs });
      return info.logId;
    } catch (error) {
      if (error instanceof RunhubError && error.code === Code.DeadlineExceeded) {
        throw new RunhubError(error.message, error.code, { isTemporary: true, cause: error });
      }
      throw error;
    }
  }
}

/** Returns the error if the error is temporary. Otherwise, the function throws the error. */
function requireTemporaryError(error: unknown): RunhubError {
  if (error instanceof RunhubError && error.isTemporary) {
    return error;
  }
  throw error;
}
