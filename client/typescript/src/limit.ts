/** Until when something may go on. */

import { setMaxListeners } from "node:events";
import { clearTimeout, setTimeout } from "node:timers";
import { setTimeout as sleep } from "node:timers/promises";

import { Code } from "@connectrpc/connect";

import { Closed, RunhubError } from "./errors.js";

/** A longer timer would go off at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** How a Limit counts. */
interface LimitOptions {
  /** Whether its timers alone keep the process alive; true by default. */
  ref?: boolean;
}

/**
 * Until when something may go on: for so many milliseconds, and while nobody calls it off. To be disposed, so that no
 * timer and no listener is left of it.
 */
export class Limit implements Disposable {
  readonly #over = new AbortController();
  readonly #callers: readonly AbortSignal[];
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #ref: boolean;
  #error: RunhubError | undefined;

  constructor(
    readonly ms: number | undefined,
    callers: readonly (AbortSignal | undefined)[],
    { ref = true }: LimitOptions = {},
  ) {
    this.#ref = ref;
    setMaxListeners(0, this.signal);
    this.#callers = callers.filter((caller) => caller !== undefined);
    for (const caller of this.#callers) {
      caller.addEventListener("abort", this.#callOff);
    }
    if (this.#callers.some((caller) => caller.aborted)) {
      this.#callOff();
    }
    if (ms !== undefined) {
      this.#timer = setTimeout(this.#timeOut, Math.min(ms, LONGEST_TIMER_MS));
      if (!ref) {
        this.#timer.unref();
      }
    }
  }

  /** Aborted when it is over. Its reason is plain, so that a stream ends with CANCEL; `error` says why. */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** Why it is over: CANCELED by a caller, or DEADLINE_EXCEEDED. Undefined while it goes on. */
  get error(): RunhubError | undefined {
    return this.#error;
  }

  get isTimedOut(): boolean {
    return this.#error?.code === Code.DeadlineExceeded;
  }

  /** Waits for so long, or until it is over. */
  async pause(ms: number): Promise<void> {
    // It is only ever rejected by the signal.
    await sleep(Math.min(ms, LONGEST_TIMER_MS), undefined, { signal: this.signal, ref: this.#ref }).catch(() => {});
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const caller of this.#callers) {
      caller.removeEventListener("abort", this.#callOff);
    }
  }

  readonly #callOff = (): void => {
    const cause = this.#callers.find((caller) => caller.aborted)?.reason;
    const why = cause instanceof Error ? cause.message : "by the caller";
    const text = cause instanceof Closed ? why : `called off: ${why}`;
    this.#end(new RunhubError(text, Code.Canceled, { cause }));
  };

  readonly #timeOut = (): void => {
    this.#end(new RunhubError(`no answer within ${this.ms} ms`, Code.DeadlineExceeded));
  };

  #end(error: RunhubError): void {
    this.#error ??= error;
    this.#over.abort();
  }
}
