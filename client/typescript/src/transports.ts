/** This module defines the transports that the generated clients call. These transports call Connect's transport. */

import {
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, type ContextValues, type StreamResponse, type Transport, type UnaryResponse } from "@connectrpc/connect";
import { v7 as uuidv7 } from "uuid";

import { RunhubError } from "./errors.js";
import { Limit } from "./limit.js";
import { copyMessage, type RequestWithWait, readWaitMs } from "./messages.js";
import { repeat } from "./repeat.js";

/** A transport that makes each call once and converts each error to a RunhubError. */
export class NoRetryTransport implements Transport {
  readonly #inner: Transport;

  /**
   * Creates a transport whose calls all end when `closed` is aborted. When `closed` is aborted, a transport that
   * retries the calls of this transport must also stop.
   */
  constructor(
    inner: Transport,
    readonly closed: AbortSignal,
  ) {
    this.#inner = inner;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    using limit = new Limit(timeoutMs, [signal, this.closed]);
    try {
      return await this.#inner.unary(method, limit.signal, undefined, header, input, contextValues);
    } catch (error) {
      throw limit.error ?? RunhubError.from(error);
    }
  }

  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues?: ContextValues,
  ): Promise<StreamResponse<I, O>> {
    const limit = new Limit(timeoutMs, [signal, this.closed]);
    try {
      const response = await this.#inner.stream(method, limit.signal, undefined, header, input, contextValues);
      return { ...response, message: withTypedErrors(response.message, limit) };
    } catch (error) {
      limit[Symbol.dispose]();
      throw limit.error ?? RunhubError.from(error);
    }
  }
}

/**
 * Yields the messages of a stream and converts each error to a RunhubError. When the messages end, the function
 * disposes the limit.
 */
async function* withTypedErrors<T>(messages: AsyncIterable<T>, limit: Limit): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw limit.error ?? RunhubError.from(error);
  } finally {
    limit[Symbol.dispose]();
  }
}

/**
 * A transport that retries each call that fails for a temporary reason. A call and all retries share one `request_id`
 * and one deadline. The transport opens each stream only once.
 */
export class RetryTransport implements Transport {
  readonly stream: Transport["stream"];
  readonly #single: NoRetryTransport;
  readonly #deadlineMs: number;

  constructor(single: NoRetryTransport, deadlineMs: number) {
    this.stream = single.stream.bind(single);
    this.#single = single;
    this.#deadlineMs = deadlineMs;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    const request = prepareRequest(method.input, input);
    const wait = new RemainingWait(request);
    using limit = new Limit(this.#limitMs(timeoutMs, wait.ms), [signal, this.#single.closed]);
    return await repeat(limit, () => {
      wait.prepareCall();
      return this.#single.unary(method, limit.signal, undefined, header, request as MessageInitShape<I>, contextValues);
    });
  }

  /**
   * Returns the time limit for the call and all retries, in milliseconds. If the caller sets a timeout, the timeout
   * replaces the deadline and the wait. As in Connect, the timeout 0 means no limit.
   */
  #limitMs(timeoutMs: number | undefined, waitMs: number): number | undefined {
    if (timeoutMs !== undefined) {
      return timeoutMs > 0 ? timeoutMs : undefined;
    }
    return this.#deadlineMs + waitMs;
  }
}

/** Maximum `wait` of a call, in milliseconds. The server reduces a longer wait to this maximum. */
const LONGEST_WAIT_MS = 300_000;

/**
 * Reduces the `wait` of each retry to the remaining time, so that the response arrives before the deadline. When the
 * server compares duplicate requests, the server ignores `wait`, so the server treats a call and all retries as one
 * call.
 */
class RemainingWait {
  /**
   * The maximum time that the server may hold the call, in milliseconds. If the request has no wait, or a negative wait
   * that the server refuses, the time is 0.
   */
  readonly ms: number;
  readonly #request: KnownFields;
  #begunAt: number | undefined;

  constructor(request: KnownFields) {
    this.#request = request;
    this.ms = Math.min(Math.max(readWaitMs(request), 0), LONGEST_WAIT_MS);
  }

  /**
   * Sets the `wait` of the request to the remaining time. Call this method before the first call and before each retry.
   */
  prepareCall(): void {
    if (this.#begunAt === undefined) {
      this.#begunAt = performance.now();
    } else if (this.ms > 0) {
      const elapsedMs = performance.now() - this.#begunAt;
      this.#request.wait = durationFromMs(Math.max(0, Math.round(this.ms - elapsedMs)));
    }
  }
}

/** The request fields that the client reads and sets. A request may have none of these fields. */
interface KnownFields extends RequestWithWait {
  requestId?: string;
}

/**
 * Returns a copy of the request for the call and all retries. If the RPC takes a `request_id` and the caller has set
 * none, the function sets a new UUIDv7.
 *
 * @throws RunhubError with INVALID_ARGUMENT if the request can't be encoded.
 */
function prepareRequest<I extends DescMessage>(schema: I, input: MessageInitShape<I>): MessageShape<I> & KnownFields {
  const request = copyMessage(schema, input) as MessageShape<I> & KnownFields;
  if (request.requestId === "") {
    request.requestId = uuidv7();
  }
  assertEncodable(schema, request);
  return request;
}

/**
 * Checks that the message can be encoded. Without this check, Connect would report the message as a broken connection,
 * and the client would retry a call that can never succeed.
 *
 * @throws RunhubError with INVALID_ARGUMENT if the message can't be encoded.
 */
function assertEncodable<I extends DescMessage>(schema: I, request: MessageShape<I>): void {
  try {
    toBinary(schema, request);
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new RunhubError(text, Code.InvalidArgument, { cause });
  }
}
