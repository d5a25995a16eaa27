/** Subscriptions that resume after broken connections. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, createClient, type Client as ServiceClient } from "@connectrpc/connect";

import { RunhubError } from "./errors.js";
import { Limit } from "./limit.js";
import { Backoff } from "./repeat.js";
import { SubscriptionState } from "./subscription-state.js";
import type { SingleTryTransport } from "./transports.js";
import { EventService, ServerService, type SubscribeEventsRequestSchema, type SubscribeEventsResponse } from "./v1.js";

/** The options of `subscribe`. */
export interface SubscriptionOptions {
  /** Ends the subscription when it is aborted. The loop then throws a RunhubError with CANCELED. */
  signal?: AbortSignal;
  /**
   * The `logId` of the subscription from which the request's cursor comes. If the server has another log, the subscription
   * throws OtherLog.
   */
  logId?: string | undefined;
}

/**
 * A stream of events without a gap or a duplicate, through broken connections and restarts of the server. Iterate over it;
 * each update's `message.case` says which message it is. Leaving the loop closes the stream. A later loop resumes.
 *
 * - `snapshot`: the whole state of the run if the request starts with FROM_SNAPSHOT, once and first.
 * - `event`: an event that matches the request.
 * - `bookmark`: every matching event up to its position has been yielded.
 * - `caughtUp`: all stored events have been yielded, once. The following events are live.
 * - `end`: the last message. The run has ended or was deleted.
 *
 * The loop throws a RunhubError that is not temporary (POSITION_COMPACTED, RUN_NOT_FOUND), and OtherLog.
 */
export class Subscription implements AsyncIterable<SubscribeEventsResponse> {
  readonly #closed: AbortSignal;
  readonly #deadlineMs: number;
  readonly #events: ServiceClient<typeof EventService>;
  readonly #server: ServiceClient<typeof ServerService>;
  readonly #signal: AbortSignal | undefined;
  readonly #state: SubscriptionState;

  /** @internal Use `Client.subscribe`. */
  constructor(
    single: SingleTryTransport,
    deadlineMs: number,
    request: MessageInitShape<typeof SubscribeEventsRequestSchema>,
    { signal, logId }: SubscriptionOptions,
  ) {
    this.#closed = single.closed;
    this.#deadlineMs = deadlineMs;
    this.#events = createClient(EventService, single);
    this.#server = createClient(ServerService, single);
    this.#signal = signal;
    this.#state = new SubscriptionState(request, logId);
  }

  /** The server's log in which `position` is valid. Undefined before the first message, unless the options have a logId. */
  get logId(): string | undefined {
    return this.#state.logId;
  }

  /** The cursor: the last position received. Undefined before the first message, unless the request has a cursor. */
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
        lastError = temporaryError(limit.error ?? error);
      }
      if (!this.#state.hasEnded) {
        await limit.pause(backoff.next(lastError));
      }
    }
  }

  /** Yields the messages of one stream until its `end`. Closes the stream when the caller stops reading. */
  async *#openStream(signal: AbortSignal): AsyncGenerator<SubscribeEventsResponse, void, undefined> {
    const closing = new AbortController();
    const streamSignal = AbortSignal.any([signal, closing.signal]);
    try {
      const request = this.#state.begin(await this.#readLogId(streamSignal));
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

  /** Returns the log that the server has now. A subscription has no deadline, so DEADLINE_EXCEEDED is temporary here. */
  async #readLogId(signal: AbortSignal): Promise<string> {
    try {
      const info = await this.#server.getServerInfo({}, { signal, timeoutMs: this.#deadlineMs });
      return info.logId;
    } catch (error) {
      if (error instanceof RunhubError && error.code === Code.DeadlineExceeded) {
        throw new RunhubError(error.message, error.code, { isPassing: true, cause: error });
      }
      throw error;
    }
  }
}

/** Returns the error if it is temporary, and throws it if it is not. */
function temporaryError(error: unknown): RunhubError {
  if (error instanceof RunhubError && error.isPassing) {
    return error;
  }
  throw error;
}
