/** This module retries calls that fail for a temporary reason. */

import { RunhubError } from "./errors.js";
import type { Limit } from "./limit.js";

const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 2_000;

/**
 * A delay is at most the time limit of the call divided by this number. Otherwise the time limit could end during a
 * longer delay although the server is available again.
 */
const LIMIT_DIVISOR = 10;

/**
 * The delays before the retries of a call, in milliseconds. Before jitter, each delay is twice the previous delay, up
 * to the smaller of LONGEST_DELAY_MS and a tenth of the time limit.
 */
export class Backoff {
  readonly #longestMs: number;
  #nextMs = FIRST_DELAY_MS;

  /**
   * Creates the delays for a call that may take `limitMs` milliseconds with all retries. If `limitMs` is undefined, the
   * time is unlimited.
   */
  constructor(limitMs?: number) {
    this.#longestMs = Math.min(LONGEST_DELAY_MS, (limitMs ?? Number.POSITIVE_INFINITY) / LIMIT_DIVISOR);
  }

  /** Returns the next delay, which is at least the retry delay in `lastError`, the last error of the call. */
  next(lastError?: RunhubError): number {
    const delayMs = Math.min(this.#nextMs, this.#longestMs);
    this.#nextMs = delayMs * 2;
    // Without jitter, all clients that lost the connection at the same time would call the restarted server at the same
    // time.
    const jittered = delayMs * (0.5 + Math.random() / 2);
    return Math.max(jittered, lastError?.retryDelayMs ?? 0);
  }

  /** Resets the next delay to FIRST_DELAY_MS. */
  reset(): void {
    this.#nextMs = FIRST_DELAY_MS;
  }
}

/**
 * Makes a call and returns its response. While the error of the call is temporary and the limit is not reached, the
 * function retries the call.
 *
 * @throws RunhubError with the first error that is not temporary. After the time limit, the function throws the last
 *   error of the call, or DEADLINE_EXCEEDED if the call has returned no error. If a caller aborts the call, the
 *   function throws CANCELLED.
 */
export async function repeat<T>(
  limit: Limit,
  call: () => Promise<T>,
  isTemporary = (error: RunhubError) => error.isTemporary,
): Promise<T> {
  const backoff = new Backoff(limit.ms);
  let lastError: RunhubError | undefined;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      throwIfLimitReached(limit, lastError);
      if (!(error instanceof RunhubError && isTemporary(error))) {
        throw error;
      }
      lastError = error;
    }
    await limit.pause(backoff.next(lastError));
    throwIfLimitReached(limit, lastError);
  }
}

function throwIfLimitReached(limit: Limit, lastError: RunhubError | undefined): void {
  if (limit.error === undefined) {
    return;
  }
  // After the time limit, throw the previous error of the call, because DEADLINE_EXCEEDED does not explain the failure.
  throw limit.isTimedOut ? (lastError ?? limit.error) : limit.error;
}
