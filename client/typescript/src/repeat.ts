/** Repeating calls that fail for a temporary reason. */

import { RunhubError } from "./errors.js";
import type { Limit } from "./limit.js";

const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 2_000;

/** A delay is at most a tenth of the available time, so that a server that returns late is still found in time. */
const LEAST_TRIES = 10;

/** The delays before each further try, in milliseconds. Each delay is twice as long as the one before, up to the longest. */
export class Backoff {
  readonly #longestMs: number;
  #nextMs = FIRST_DELAY_MS;

  /** `limitMs` is the time for all tries. Undefined means that it is unlimited. */
  constructor(limitMs?: number) {
    this.#longestMs = Math.min(LONGEST_DELAY_MS, (limitMs ?? Number.POSITIVE_INFINITY) / LEAST_TRIES);
  }

  /** Returns the next delay, which is at least the retry delay in the error of the last try. */
  next(lastError?: RunhubError): number {
    const delayMs = Math.min(this.#nextMs, this.#longestMs);
    this.#nextMs = delayMs * 2;
    // Jitter spreads the calls of clients that lost their server at the same time.
    const jittered = delayMs * (0.5 + Math.random() / 2);
    return Math.max(jittered, lastError?.retryDelayMs ?? 0);
  }

  /** Makes the next delay the first one again. */
  reset(): void {
    this.#nextMs = FIRST_DELAY_MS;
  }
}

/**
 * Makes a call and returns its response. Repeats the call while its error is temporary, until the time limit has passed.
 *
 * @throws RunhubError the first error that is not temporary. After the time limit, the error of the last try that ended, or
 *   DEADLINE_EXCEEDED if no try ended. CANCELED as soon as a caller aborts.
 */
export async function repeat<T>(
  limit: Limit,
  call: () => Promise<T>,
  isTemporary = (error: RunhubError) => error.isPassing,
): Promise<T> {
  const backoff = new Backoff(limit.ms);
  let lastError: RunhubError | undefined;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      throwIfOver(limit, lastError);
      if (!(error instanceof RunhubError && isTemporary(error))) {
        throw error;
      }
      lastError = error;
    }
    await limit.pause(backoff.next(lastError));
    throwIfOver(limit, lastError);
  }
}

function throwIfOver(limit: Limit, lastError: RunhubError | undefined): void {
  if (limit.error === undefined) {
    return;
  }
  // DEADLINE_EXCEEDED does not tell the cause. The error of an earlier try does.
  throw limit.isTimedOut ? (lastError ?? limit.error) : limit.error;
}
