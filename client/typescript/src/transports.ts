/** The transports between the generated clients and Connect's transport. */

import {
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type Duration, durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, type ContextValues, type StreamResponse, type Transport, type UnaryResponse } from "@connectrpc/connect";
import { v7 as uuidv7 } from "uuid";

import { RunhubError } from "./errors.js";
import { Limit } from "./limit.js";
import { ownCopy } from "./messages.js";
import { repeat } from "./repeat.js";

/** Makes each call once, and throws errors as RunhubError. */
export class SingleTryTransport implements Transport {
  readonly #inner: Transport;

  /** `closed` ends all calls when it is aborted. Code that repeats calls must stop then too. */
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

/** Yields the messages of a stream, and disposes the limit when they end. Throws errors as RunhubError. */
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
 * Repeats each call that fails for a temporary reason, with one `request_id` and one deadline for all tries. Opens each
 * stream once.
 */
export class RetryTransport implements Transport {
  readonly stream: Transport["stream"];
  readonly #single: SingleTryTransport;
  readonly #deadlineMs: number;

  constructor(single: SingleTryTransport, deadlineMs: number) {
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
    const request = prepared(method.input, input);
    const wait = new RemainingWait(request);
    using limit = new Limit(this.#limitMs(timeoutMs, wait.ms), [signal, this.#single.closed]);
    return await repeat(limit, () => {
      wait.beforeTry();
      return this.#single.unary(method, limit.signal, undefined, header, request as MessageInitShape<I>, contextValues);
    });
  }

  /** Returns the time for all tries. A caller's timeout replaces deadline and wait; as in Connect, 0 means no limit. */
  #limitMs(timeoutMs: number | undefined, waitMs: number): number | undefined {
    if (timeoutMs !== undefined) {
      return timeoutMs > 0 ? timeoutMs : undefined;
    }
    return this.#deadlineMs + waitMs;
  }
}

/** The server reduces a longer `wait` to this. */
const LONGEST_WAIT_MS = 300_000;

/**
 * Reduces the `wait` of each further try to the rest of the time, so that the answer arrives before the deadline. The wait is
 * not part of the call's content, so the server still sees all tries as one call.
 */
class RemainingWait {
  /** How long the server may hold the call. 0 if the request has no wait, or a negative one that the server refuses. */
  readonly ms: number;
  readonly #request: KnownFields;
  #begunAt: number | undefined;

  constructor(request: KnownFields) {
    this.#request = request;
    const waitMs = request.wait === undefined ? 0 : durationMs(request.wait);
    this.ms = Math.min(Math.max(waitMs, 0), LONGEST_WAIT_MS);
  }

  /** Updates the request. Must be called before each try. */
  beforeTry(): void {
    if (this.#begunAt === undefined) {
      this.#begunAt = performance.now();
    } else if (this.ms > 0) {
      const elapsedMs = performance.now() - this.#begunAt;
      this.#request.wait = durationFromMs(Math.max(0, Math.round(this.ms - elapsedMs)));
    }
  }
}

/** The fields that the client reads and sets in the requests that have them. */
interface KnownFields {
  requestId?: string;
  wait?: Duration;
}

/**
 * Returns the request to send in each try, with a `request_id` if the RPC takes one and the caller set none.
 *
 * @throws RunhubError with INVALID_ARGUMENT if the request can't be encoded.
 */
function prepared<I extends DescMessage>(schema: I, input: MessageInitShape<I>): MessageShape<I> & KnownFields {
  const request = ownCopy(schema, input) as MessageShape<I> & KnownFields;
  if (request.requestId === "") {
    request.requestId = uuidv7();
  }
  assertEncodable(schema, request);
  return request;
}

/**
 * Throws if the message can't be encoded. Without this check, Connect reports the message as a broken connection, and the
 * client repeats a call that can never succeed.
 */
function assertEncodable<I extends DescMessage>(schema: I, request: MessageShape<I>): void {
  try {
    toBinary(schema, request);
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new RunhubError(text, Code.InvalidArgument, { cause });
  }
}
