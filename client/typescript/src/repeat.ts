/** Calls that are made again until they are answered. */

import { RunhubError } from "./errors.js";
import type { Limit } from "./limit.js";

const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 2_000;

/** So many delays fit into the time there is: a server that is back late in it is still found. */
const LEAST_TRIES = 10;

/** How long to wait before each further try: twice as long each time, up to a longest. */
export class Backoff {
  readonly #longestMs: number;
  #nextMs = FIRST_DELAY_MS;

  /** For tries that go on for `limitMs`; undefined is for ever. */
  constructor(limitMs?: number) {
    this.#longestMs = Math.min(LONGEST_DELAY_MS, (limitMs ?? Number.POSITIVE_INFINITY) / LEAST_TRIES);
  }

  /** The next delay; never less than the server has said in what was met. */
  next(met?: RunhubError): number {
    const delayMs = Math.min(this.#nextMs, this.#longestMs);
    this.#nextMs = delayMs * 2;
    // Jitter, so that those who lost the same server don't come back as one.
    const jittered = delayMs * (0.5 + Math.random() / 2);
    return Math.max(jittered, met?.retryDelayMs ?? 0);
  }

  /** Begins anew: the server was there. */
  reset(): void {
    this.#nextMs = FIRST_DELAY_MS;
  }
}

/**
 * Makes a call, and again within the limit while what it meets passes.
 *
 * @throws RunhubError what does not pass, at once; when time is up what the last try met, or DEADLINE_EXCEEDED if that
 *   was the first one; CANCELED as soon as a caller calls it off.
 */
export async function repeat<T>(
  limit: Limit,
  call: () => Promise<T>,
  passes = (error: RunhubError) => error.isPassing,
): Promise<T> {
  const backoff = new Backoff(limit.ms);
  let met: RunhubError | undefined;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      throwIfOver(limit, met);
      if (!(error instanceof RunhubError && passes(error))) {
        throw error;
      }
      met = error;
    }
    await limit.pause(backoff.next(met));
    throwIfOver(limit, met);
  }
}

function throwIfOver(limit: Limit, met: RunhubError | undefined): void {
  if (limit.error !== undefined) {
    throw limit.isTimedOut ? (met ?? limit.error) : limit.error;
  }
}
