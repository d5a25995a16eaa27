/** This module ends a call at its time limit, or when the caller aborts the call. */

import { setMaxListeners } from "node:events";
import { clearTimeout, setTimeout } from "node:timers";
import { setTimeout as sleep } from "node:timers/promises";

import { Code } from "@connectrpc/connect";

import { ClientClosed, RunhubError } from "./errors.js";

/** Maximum delay of a timer, in milliseconds. Node fires a timer with a longer delay immediately. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

interface LimitOptions {
  /** If true, the timers of the limit prevent the exit of the process. Default: true. */
  ref?: boolean;
}

/**
 * A limit that ends an operation, such as a call. The limit is reached after `ms` milliseconds, or when a caller of the
 * operation aborts the operation. Dispose the limit to remove its timer and its listeners.
 */
export class Limit implements Disposable {
  readonly #over = new AbortController();
  readonly #callers: readonly AbortSignal[];
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #ref: boolean;
  #error: RunhubError | undefined;

  /** Creates a limit of `ms` milliseconds. If `ms` is undefined, only the callers can end the operation. */
  constructor(
    readonly ms: number | undefined,
    callers: readonly (AbortSignal | undefined)[],
    { ref = true }: LimitOptions = {},
  ) {
    this.#ref = ref;
    setMaxListeners(0, this.signal);
    this.#callers = callers.filter((caller) => caller !== undefined);
    for (const caller of this.#callers) {
      caller.addEventListener("abort", this.#cancel);
    }
    if (this.#callers.some((caller) => caller.aborted)) {
      this.#cancel();
    }
    if (ms !== undefined) {
      this.#timer = setTimeout(this.#timeOut, Math.min(ms, LONGEST_TIMER_MS));
      if (!ref) {
        this.#timer.unref();
      }
    }
  }

  /**
   * The signal that is aborted when the limit is reached. The signal is aborted without a reason, so that Connect ends
   * a stream with the HTTP/2 error code CANCEL. The property `error` contains the error of the reached limit.
   */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /**
   * The error of a reached limit: CANCELLED if a caller aborted the operation, DEADLINE_EXCEEDED if the time has
   * passed. If `error` is undefined, the limit has not been reached.
   */
  get error(): RunhubError | undefined {
    return this.#error;
  }

  get isTimedOut(): boolean {
    return this.#error?.code === Code.DeadlineExceeded;
  }

  /** Waits for `ms` milliseconds, but at most until the limit is reached. */
  async pause(ms: number): Promise<void> {
    // If the limit is reached, the signal rejects the promise. The caller checks `error`, so ignore the rejection.
    await sleep(Math.min(ms, LONGEST_TIMER_MS), undefined, { signal: this.signal, ref: this.#ref }).catch(() => {});
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const caller of this.#callers) {
      caller.removeEventListener("abort", this.#cancel);
    }
  }

  readonly #cancel = (): void => {
    const cause = this.#callers.find((caller) => caller.aborted)?.reason;
    this.#end(new RunhubError(describeCancellation(cause), Code.Canceled, { cause }));
  };

  readonly #timeOut = (): void => {
    this.#end(
      new RunhubError(
        `the server did not answer the call within ${this.ms} ms: pass a larger timeoutMs`,
        Code.DeadlineExceeded,
      ),
    );
  };

  #end(error: RunhubError): void {
    this.#error ??= error;
    this.#over.abort();
  }
}

function describeCancellation(cause: unknown): string {
  if (cause instanceof ClientClosed) {
    return cause.message;
  }
  const text = "the caller cancelled the call";
  return cause instanceof Error ? `${text}: ${cause.message}` : text;
}
