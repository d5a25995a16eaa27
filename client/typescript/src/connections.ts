/** This module opens the connections of a client and chooses the connection of each call. */

import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import type { ContextValues, StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { type Address, openSocket } from "./address.js";
import { type RequestWithWait, readWaitMs } from "./messages.js";

/** Maximum size of a response, in bytes. The largest response is a snapshot, which has at most 16 MiB. */
const MAX_RESPONSE_BYTES = 16 * 1024 * 1024;

/**
 * Interval of the pings that check a connection while a call or a stream is open, in milliseconds. Without pings, the
 * client would not notice a server that has failed without closing the connection. An idle connection is checked before
 * its next use. Do not set connect-node's option `pingIdleConnection`, because connect-node would ping a closed
 * connection and crash.
 */
const PING_INTERVAL_MS = 20_000;

/**
 * Maximum number of bytes of a stream that the client buffers for the stream's reader. Only this window limits an
 * unread stream: Node reopens the window of the connection as soon as data arrives, whether or not the stream is read.
 * An unread stream therefore does not block other calls on the connection.
 */
const STREAM_WINDOW = 1024 * 1024;

/**
 * Maximum number of held calls and streams at a time on one pooled connection. This maximum is far below the 1,024 open
 * calls and streams that a server allows on one connection. Therefore, cancelled calls that the server has not ended
 * yet never block a new call. If nobody reads the 100 streams of a connection, the client buffers at most 100 MiB for
 * the connection, which is STREAM_WINDOW for each stream, and the connection's window stays open.
 */
const SLOTS_PER_CONNECTION = 100;

/**
 * A transport that chooses the connection of each call. The first connection carries the calls that the server answers
 * at once. A pool of further connections carries the streams and the held calls, which are the calls with a `wait`. If
 * one connection carried all calls, 1,024 streams and held calls would block every other call of the client.
 */
export class Connections implements Transport {
  readonly #address: Address;
  readonly #closed: AbortSignal;
  readonly #first: Connection;
  /** The connections for streams and held calls. The transport reuses these connections until the client is closed. */
  readonly #pool: Connection[] = [];

  /** Creates a transport whose connections can't be opened after `closed` is aborted. */
  constructor(address: Address, closed: AbortSignal) {
    this.#address = address;
    this.#closed = closed;
    this.#first = new Connection(address, closed);
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    if (!isHeld(method.input, input)) {
      return await this.#first.transport.unary(method, signal, timeoutMs, header, input, contextValues);
    }
    using slot = this.#takeSlot(signal);
    return await slot.transport.unary(method, slot.signal, timeoutMs, header, input, contextValues);
  }

  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues?: ContextValues,
  ): Promise<StreamResponse<I, O>> {
    const slot = this.#takeSlot(signal);
    try {
      const response = await slot.transport.stream(method, slot.signal, timeoutMs, header, input, contextValues);
      return { ...response, message: releaseAtEnd(response.message, slot) };
    } catch (error) {
      slot.release();
      throw error;
    }
  }

  /** Closes all connections. */
  close(): void {
    for (const connection of [this.#first, ...this.#pool]) {
      connection.close();
    }
  }

  /** Takes a slot on the first pooled connection with a free slot. If no slot is free, adds a connection. */
  #takeSlot(signal: AbortSignal | undefined): Slot {
    let connection = this.#pool.find(({ takenSlots }) => takenSlots < SLOTS_PER_CONNECTION);
    if (connection === undefined) {
      connection = new Connection(this.#address, this.#closed);
      this.#pool.push(connection);
    }
    return new Slot(connection, signal);
  }
}

/** Returns whether the server may hold the call until the `wait` of its request ends. */
function isHeld<I extends DescMessage>(schema: I, input: MessageInitShape<I>): boolean {
  const request = create(schema, input) as MessageShape<I> & RequestWithWait;
  return readWaitMs(request) > 0;
}

/** An HTTP/2 connection that opens at its first call. If the connection breaks, the next call opens it again. */
class Connection {
  readonly transport: Transport;
  /** The number of held calls and streams that have a slot on the connection. */
  takenSlots = 0;
  readonly #session: Http2SessionManager;

  constructor(address: Address, closed: AbortSignal) {
    const { baseUrl } = address;
    const pings = { pingIntervalMs: PING_INTERVAL_MS };
    const sessionManager = new Http2SessionManager(baseUrl, pings, {
      createConnection() {
        // Without this check, the session manager would open a new connection for a call that begins after the close.
        closed.throwIfAborted();
        return openSocket(address);
      },
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW },
    });
    this.#session = sessionManager;
    this.transport = createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: MAX_RESPONSE_BYTES });
  }

  close(): void {
    this.#session.abort();
  }
}

/**
 * The slot of a held call or a stream on a pooled connection. The slot is released when its owner releases it, or
 * when the caller aborts the call.
 */
class Slot implements Disposable {
  readonly #connection: Connection;
  readonly #caller: AbortSignal | undefined;
  readonly #released = new AbortController();

  constructor(connection: Connection, caller: AbortSignal | undefined) {
    this.#connection = connection;
    this.#caller = caller;
    connection.takenSlots += 1;
    caller?.addEventListener("abort", this.release);
    if (caller?.aborted) {
      this.release();
    }
  }

  get transport(): Transport {
    return this.#connection.transport;
  }

  /**
   * The signal that is aborted when the slot is released. The signal ends the call, so that a stream whose reader has
   * left does not remain open without a slot.
   */
  get signal(): AbortSignal {
    return this.#released.signal;
  }

  /** Releases the slot and ends the call. If the slot is already released, the method does nothing. */
  readonly release = (): void => {
    if (this.signal.aborted) {
      return;
    }
    this.#caller?.removeEventListener("abort", this.release);
    this.#connection.takenSlots -= 1;
    this.#released.abort();
  };

  [Symbol.dispose](): void {
    this.release();
  }
}

/**
 * Returns the messages of a stream. When the messages end or fail, or when the reader leaves the stream, the iterator
 * of the messages releases the slot of the stream. The iterator is not an async generator, because an async generator
 * would not release the slot if the reader leaves before the first message.
 */
function releaseAtEnd<T>(messages: AsyncIterable<T>, slot: Slot): AsyncIterable<T> {
  const iterator = messages[Symbol.asyncIterator]();
  const next = async (): Promise<IteratorResult<T>> => {
    try {
      const result = await iterator.next();
      if (result.done) {
        slot.release();
      }
      return result;
    } catch (error) {
      slot.release();
      throw error;
    }
  };
  const leave = async (): Promise<IteratorResult<T>> => {
    slot.release();
    return { done: true, value: undefined };
  };
  return { [Symbol.asyncIterator]: () => ({ next, return: leave }) };
}
