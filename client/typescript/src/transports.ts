/** What every call goes through, between the generated clients and Connect's transport. */

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

/** Makes each call once; what it throws is a RunhubError. */
export class OnceTransport implements Transport {
  readonly #inner: Transport;

  /** Ends all calls when `closed` is aborted. What makes them again is to end then, too. */
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

/** The messages of a stream, whose limit ends with them. */
async function* withTypedErrors<T>(messages: AsyncIterable<T>, limit: Limit): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw limit.error ?? RunhubError.from(error);
  } finally {
    limit[Symbol.dispose]();
  }
}

/** Sees calls through: a deadline over all tries, a `request_id`, and tries until the server answers. Not for streams. */
export class RepeatingTransport implements Transport {
  readonly stream: Transport["stream"];
  readonly #once: OnceTransport;
  readonly #deadlineMs: number;

  constructor(once: OnceTransport, deadlineMs: number) {
    this.stream = once.stream.bind(once);
    this.#once = once;
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
    const wait = new Wait(request);
    using limit = new Limit(this.#limitMs(timeoutMs, wait.ms), [signal, this.#once.closed]);
    return await repeat(limit, () => {
      wait.beforeTry();
      return this.#once.unary(method, limit.signal, undefined, header, request as MessageInitShape<I>, contextValues);
    });
  }

  /** What the caller says is for all of the call; 0 is no limit, as in Connect. */
  #limitMs(timeoutMs: number | undefined, waitMs: number): number | undefined {
    if (timeoutMs !== undefined) {
      return timeoutMs > 0 ? timeoutMs : undefined;
    }
    return this.#deadlineMs + waitMs;
  }
}

/** The server cuts a longer `wait` to this. */
const LONGEST_WAIT_MS = 300_000;

/**
 * How long the server may hold a call. A further try waits for the rest of the time, so that it is answered within the
 * deadline; with its `request_id` it stays the same call, for the wait is no part of its content.
 */
class Wait {
  /** 0 for a call that is not held, and for a wait that the server will refuse. */
  readonly ms: number;
  readonly #request: Known;
  #begunAt: number | undefined;

  constructor(request: Known) {
    this.#request = request;
    const askedMs = request.wait === undefined ? 0 : durationMs(request.wait);
    this.ms = Math.min(Math.max(askedMs, 0), LONGEST_WAIT_MS);
  }

  /** To be said before each try. */
  beforeTry(): void {
    if (this.#begunAt === undefined) {
      this.#begunAt = performance.now();
    } else if (this.ms > 0) {
      const goneMs = performance.now() - this.#begunAt;
      this.#request.wait = durationFromMs(Math.max(0, Math.round(this.ms - goneMs)));
    }
  }
}

/** What some requests have, whatever else is in them. */
interface Known {
  requestId?: string;
  wait?: Duration;
}

/** The request as each try sends it: with a `request_id`, if it takes one, so that all tries are one call. */
function prepared<I extends DescMessage>(schema: I, input: MessageInitShape<I>): MessageShape<I> & Known {
  const request = ownCopy(schema, input) as MessageShape<I> & Known;
  if (request.requestId === "") {
    request.requestId = uuidv7();
  }
  assertEncodable(schema, request);
  return request;
}

/** What can't be encoded would look like a connection that broke, and be tried until the deadline. */
function assertEncodable<I extends DescMessage>(schema: I, request: MessageShape<I>): void {
  try {
    toBinary(schema, request);
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new RunhubError(text, Code.InvalidArgument, { cause });
  }
}
