/** The time limit and the cancellation of a call. */

import { setMaxListeners } from "node:events";
import { clearTimeout, setTimeout } from "node:timers";
import { setTimeout as sleep } from "node:timers/promises";

import { Code } from "@connectrpc/connect";

import { Closed, RunhubError } from "./errors.js";

/** Node fires a timer with a longer delay at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

interface LimitOptions {
  /** Whether the timers of the limit keep the process alive. The default is true. */
  ref?: boolean;
}

/**
 * Ends something after a number of milliseconds, or when one of its callers aborts it. Dispose the limit to remove its timer
 * and its listeners.
 */
export class Limit implements Disposable {
  readonly #over = new AbortController();
  readonly #callers: readonly AbortSignal[];
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #ref: boolean;
  #error: RunhubError | undefined;

  /** `ms` undefined means that there is no time limit. */
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
   * Aborted at the limit. The signal has no reason of its own, because Connect then ends a stream with CANCEL. `error` has
   * the reason.
   */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** CANCELED if a caller aborted, DEADLINE_EXCEEDED after the time limit. Undefined before. */
  get error(): RunhubError | undefined {
    return this.#error;
  }

  get isTimedOut(): boolean {
    return this.#error?.code === Code.DeadlineExceeded;
  }

  /** Waits for `ms` milliseconds, or until the limit is reached. */
  async pause(ms: number): Promise<void> {
    // Only the signal rejects this promise.
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
    this.#end(new RunhubError(cancellationText(cause), Code.Canceled, { cause }));
  };

  readonly #timeOut = (): void => {
    this.#end(new RunhubError(`no answer within ${this.ms} ms`, Code.DeadlineExceeded));
  };

  #end(error: RunhubError): void {
    this.#error ??= error;
    this.#over.abort();
  }
}

function cancellationText(cause: unknown): string {
  if (cause instanceof Closed) {
    return cause.message;
  }
  return cause instanceof Error ? `cancelled by the caller: ${cause.message}` : "cancelled by the caller";
}
