/** Keeping a claimed task while it is worked on. */

import { EventEmitter, once, setMaxListeners } from "node:events";
import { clearInterval, setInterval } from "node:timers";

import type { JsonValue } from "@bufbuild/protobuf";
import { durationMs, type Value } from "@bufbuild/protobuf/wkt";
import { Code, type Client as ServiceClient } from "@connectrpc/connect";

import { RunhubError } from "./errors.js";
import { Limit } from "./limit.js";
import { repeat } from "./repeat.js";
import { type Claim, LeaseState, type TaskService } from "./v1.js";
import { value } from "./values.js";

/** A lease is beaten for so often while it lasts: two beats may come late. */
const BEATS_PER_LEASE = 3;

/** However long the lease, the holder hears within this that it is asked to stop: a cancel's usual grace is 30 s. */
const LONGEST_INTERVAL_MS = 10_000;

/** No server gives a shorter lease. It bounds how often is beaten for a claim that does not say. */
const SHORTEST_LEASE_MS = 1_000;

/** Any number of milliseconds: it only has to be there. */
const LONG_MS = 1_000_000_000;

const TEXTS = {
  taken: "the lease is lost: the task was taken back, moved or given to somebody else",
  unanswered: "the lease may be lost: no beat was answered for as long as it lasts",
  refused: "the lease can't be kept: a beat was refused",
};

/** Why a lease is over. Its `cause` is what the last beat met, if it was not answered. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";

  /**
   * - `taken`: the server says so. A report would be refused.
   * - `unanswered`: no beat was answered for as long as the lease lasts; by now somebody else may have the task. A report
   *   is still taken if nobody has it.
   * - `refused`: the server refused a beat, and would refuse it again: a progress over 1 MiB, say.
   */
  readonly because: "taken" | "unanswered" | "refused";

  /** @internal */
  constructor(because: LeaseLost["because"], cause?: RunhubError) {
    super(TEXTS[because], cause === undefined ? undefined : { cause });
    this.because = because;
  }
}

/**
 * Keeps a lease by heartbeats in the background: at once, then at a third of the lease, but at least every 10 s.
 *
 * What a holder does: `run` the work, report on the task, dispose the keeper. The report stands outside of `run`: a beat
 * that comes right after a completion is answered LOST, which would cut off the wait for its answer.
 */
export class LeaseKeeper implements AsyncDisposable {
  readonly #tasks: ServiceClient<typeof TaskService>;
  readonly #leaseToken: string;
  readonly #leaseMs: number;
  readonly #lost = new AbortController();
  readonly #stopped = new AbortController();
  readonly #changes = new EventEmitter().setMaxListeners(0);
  readonly #beating: Promise<void>;
  #state = LeaseState.EXTENDED;
  /** Set, and not answered yet. */
  #progress: Value | undefined;
  /**
   * When the last beat that was answered was sent, or the keeper began. The server extends from later than that, so the
   * lease is ours for at least its duration from here, whatever the clocks say.
   */
  #answeredAt = performance.now();

  /** @internal Use `Client.keepLease`. */
  constructor(tasks: ServiceClient<typeof TaskService>, claim: Claim) {
    this.#tasks = tasks;
    this.#leaseToken = claim.leaseToken;
    const given = claim.leaseDuration === undefined ? 0 : durationMs(claim.leaseDuration);
    this.#leaseMs = Math.max(given, SHORTEST_LEASE_MS);
    setMaxListeners(0, this.#lost.signal);
    this.#beating = this.#keep();
  }

  /** Aborted when the lease is lost, with a LeaseLost as its reason. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /** How the lease stands by the last answered beat; EXTENDED before the first, LOST from when it is over. */
  get state(): LeaseState {
    return this.#state;
  }

  /**
   * Runs the work for as long as the lease is kept. Its signal is `this.signal`: work that heeds it stops where it waits;
   * other work goes on unseen, and must see to its end itself.
   *
   * Being asked to stop does not end the work: the lease lives on and the report is taken. Work that wants to stop waits
   * for `cancelRequested` beside what it does.
   *
   * @throws LeaseLost as soon as it is lost before the work is done; what the work itself throws, as it is.
   */
  async run<T>(work: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
    // What is lost already is not begun.
    this.signal.throwIfAborted();
    // Beats alone don't keep the process alive; work that only waits for the signal must.
    const alive = setInterval(() => {}, LONG_MS);
    using lost = whenAborted(this.signal);
    try {
      return await Promise.race([lost.promise, work(this.signal)]);
    } finally {
      clearInterval(alive);
    }
  }

  /**
   * Sets what the next beat says of how far the work is: any JSON, at most 1 MiB. Until it is answered the latest wins;
   * once it is answered it is not sent again.
   */
  progress(json: JsonValue): void {
    this.#progress = value(json);
  }

  /**
   * Waits until the run is being cancelled: to finish or release the task within the grace.
   *
   * @throws LeaseLost the lease was lost before.
   */
  cancelRequested(): Promise<void> {
    return this.#reached(LeaseState.CANCEL_REQUESTED);
  }

  /**
   * Waits until the run is paused: to come to a good place to stop. The lease is kept.
   *
   * @throws LeaseLost the lease was lost before.
   */
  pauseRequested(): Promise<void> {
    return this.#reached(LeaseState.PAUSE_REQUESTED);
  }

  /**
   * Waits until the run goes on after a pause; returns at once when it is neither paused nor being cancelled.
   *
   * @throws LeaseLost the lease was lost before.
   */
  resumed(): Promise<void> {
    return this.#reached(LeaseState.EXTENDED);
  }

  /** Stops beating. The lease itself lives on until it runs out or the task is reported on. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#beating;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #reached(wanted: LeaseState): Promise<void> {
    while (this.#state !== wanted) {
      this.signal.throwIfAborted();
      await once(this.#changes, "change");
    }
  }

  /** Beats until the lease is lost or nobody needs it any more. */
  async #keep(): Promise<void> {
    const intervalMs = Math.min(this.#leaseMs / BEATS_PER_LEASE, LONGEST_INTERVAL_MS);
    using whole = new Limit(undefined, [this.#stopped.signal], { ref: false });
    while (whole.error === undefined) {
      try {
        this.#become(await this.#beat());
      } catch (error) {
        this.#lose(error);
        return;
      }
      await whole.pause(this.#answeredAt + intervalMs - performance.now());
    }
  }

  /** One beat, repeated until it is answered or the lease may be over. */
  async #beat(): Promise<LeaseState> {
    const leftMs = this.#answeredAt + this.#leaseMs - performance.now();
    using limit = new Limit(leftMs, [this.#stopped.signal], { ref: false });
    const state = await repeat(limit, () => this.#send(limit.signal), isUnanswered);
    if (state === LeaseState.LOST) {
      throw new LeaseLost("taken");
    }
    return state;
  }

  /** One try. One that hangs, on a connection that is dead, say, must not use up the lease. */
  async #send(signal: AbortSignal): Promise<LeaseState> {
    const progress = this.#progress;
    const sentAt = performance.now();
    const beat = { leaseToken: this.#leaseToken, ...(progress && { progress }) };
    const timeoutMs = this.#leaseMs / BEATS_PER_LEASE;
    const { results } = await this.#tasks.heartbeat({ beats: [beat] }, { signal, timeoutMs });
    const [result] = results;
    if (result === undefined) {
      throw new RunhubError("an answer to no beat", Code.Unavailable, { isPassing: true });
    }
    this.#answeredAt = sentAt;
    if (this.#progress === progress) {
      this.#progress = undefined;
    }
    return result.state;
  }

  #become(state: LeaseState): void {
    this.#state = state;
    this.#changes.emit("change");
  }

  #lose(met: unknown): void {
    if (this.#stopped.signal.aborted) {
      return;
    }
    this.#state = LeaseState.LOST;
    this.#lost.abort(met instanceof LeaseLost ? met : lostBy(RunhubError.from(met)));
    this.#changes.emit("change");
  }
}

function isUnanswered(error: RunhubError): boolean {
  return error.isPassing || error.code === Code.DeadlineExceeded;
}

function lostBy(met: RunhubError): LeaseLost {
  return new LeaseLost(isUnanswered(met) ? "unanswered" : "refused", met);
}

/** Rejected with the signal's reason when it is aborted; to be disposed, so that no listener is left. */
function whenAborted(signal: AbortSignal): Disposable & { readonly promise: Promise<never> } {
  let abort = () => {};
  const promise = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
  });
  signal.addEventListener("abort", abort);
  return { promise, [Symbol.dispose]: () => signal.removeEventListener("abort", abort) };
}
