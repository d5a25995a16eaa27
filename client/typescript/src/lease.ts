/** Keeping a claimed task while it is worked on. */

import { EventEmitter, once, setMaxListeners } from "node:events";
import { clearInterval, setInterval } from "node:timers";

import type { JsonValue } from "@bufbuild/protobuf";
import { durationMs, type Value } from "@bufbuild/protobuf/wkt";
import { Code, createClient, type Client as ServiceClient } from "@connectrpc/connect";

import { Closed, RunhubError } from "./errors.js";
import { Limit } from "./limit.js";
import { repeat } from "./repeat.js";
import type { OnceTransport } from "./transports.js";
import { type Claim, LeaseState, TaskService } from "./v1.js";
import { value } from "./values.js";

/** A lease is beaten for so often while it lasts: two beats may come late. */
const BEATS_PER_LEASE = 3;

/** However long the lease, the holder hears within this that it is asked to stop: a cancel's usual grace is 30 s. */
const LONGEST_INTERVAL_MS = 10_000;

/** No server gives a shorter lease. It bounds how often is beaten for a claim that does not say. */
const SHORTEST_LEASE_MS = 1_000;

/** Any number of milliseconds: it only has to be there. */
const LONG_MS = 1_000_000_000;

/** How long work may clean up after a loss before `run` goes on without it: what it fails with is told till then. */
const CLEANUP_MS = 1_000;

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
   *   is still taken if nobody has it. Also when the client was closed: nobody beats any more.
   * - `refused`: the server refused a beat, and would refuse it again: a progress over 1 MiB, say.
   */
  readonly because: "taken" | "unanswered" | "refused";
  /** What the work failed with on its own beside the loss, cleaning up, say. Undefined if it did not. */
  readonly workError: unknown;

  /** @internal */
  constructor(because: LeaseLost["because"], cause?: unknown, workError?: unknown) {
    super(TEXTS[because], cause === undefined ? undefined : { cause });
    this.because = because;
    this.workError = workError;
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
  readonly #closed: AbortSignal;
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
  constructor(once: OnceTransport, claim: Claim) {
    this.#tasks = createClient(TaskService, once);
    this.#closed = once.closed;
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
   * Runs the work for as long as the lease is kept. Its signal is `this.signal`: work that heeds it stops where it waits,
   * and has a second to clean up. `run` does not wait for longer: it returns before work that does not heed the signal has
   * cleaned up, or even stopped; that goes on unseen, and must see to its end itself.
   *
   * Being asked to stop does not end the work: the lease lives on and the report is taken. Work that wants to stop waits
   * for `cancelRequested` beside what it does.
   *
   * @throws LeaseLost it was lost before the work was done, however that ended; an error of the work's own is its
   *   `workError`. Without a loss what the work itself throws, as it is.
   */
  async run<T>(work: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
    // What is lost already is not begun.
    this.signal.throwIfAborted();
    // Beats alone don't keep the process alive; work that only waits for the signal must.
    const alive = setInterval(() => {}, LONG_MS);
    using lost = whenAborted(this.signal);
    const ended = (async () => await work(this.signal))();
    try {
      const result = await Promise.race([lost.promise, ended]);
      this.signal.throwIfAborted();
      return result;
    } catch (error) {
      throw this.signal.aborted ? await withWorkError(this.signal.reason, ended) : error;
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
   * @throws LeaseLost the lease was lost before; RunhubError CANCELED: the keeper was stopped before.
   */
  cancelRequested(): Promise<void> {
    return this.#reached(LeaseState.CANCEL_REQUESTED);
  }

  /**
   * Waits until the run is paused: to come to a good place to stop. The lease is kept.
   *
   * @throws LeaseLost the lease was lost before; RunhubError CANCELED: the keeper was stopped before.
   */
  pauseRequested(): Promise<void> {
    return this.#reached(LeaseState.PAUSE_REQUESTED);
  }

  /**
   * Waits until the run goes on after a pause; returns at once when it is neither paused nor being cancelled.
   *
   * @throws LeaseLost the lease was lost before; RunhubError CANCELED: the keeper was stopped before.
   */
  resumed(): Promise<void> {
    return this.#reached(LeaseState.EXTENDED);
  }

  /** Stops beating. The lease itself lives on until it runs out or the task is reported on. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#changes.emit("change");
    await this.#beating;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #reached(wanted: LeaseState): Promise<void> {
    const reached = this.#waitFor(wanted);
    // Who no longer looks at it when the keeper ends need not catch what it ends with.
    reached.catch(() => {});
    return reached;
  }

  async #waitFor(wanted: LeaseState): Promise<void> {
    while (this.#state !== wanted) {
      this.signal.throwIfAborted();
      if (this.#stopped.signal.aborted) {
        throw new RunhubError("the lease is no longer kept: nobody hears what is asked", Code.Canceled);
      }
      await once(this.#changes, "change");
    }
  }

  /** Beats until the lease is lost or nobody needs it any more. */
  async #keep(): Promise<void> {
    const intervalMs = Math.min(this.#leaseMs / BEATS_PER_LEASE, LONGEST_INTERVAL_MS);
    // When the client is closed the next beat says so, at once.
    using whole = new Limit(undefined, [this.#stopped.signal, this.#closed], { ref: false });
    while (!this.#stopped.signal.aborted) {
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
    using limit = new Limit(leftMs, [this.#stopped.signal, this.#closed], { ref: false });
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
  const isClosed = met.cause instanceof Closed;
  return new LeaseLost(isClosed || isUnanswered(met) ? "unanswered" : "refused", met);
}

/** The loss, with the error of the work's own, if it ends with one while it is waited for. */
async function withWorkError(lost: LeaseLost, ended: Promise<unknown>): Promise<LeaseLost> {
  using limit = new Limit(CLEANUP_MS, []);
  const over = once(limit.signal, "abort").then(() => undefined);
  const workError = await Promise.race([
    over,
    ended.then(
      () => undefined,
      (error: unknown) => error,
    ),
  ]);
  const isOwn = workError !== undefined && !isCancellation(workError, lost);
  return isOwn ? new LeaseLost(lost.because, lost.cause, workError) : lost;
}

/** Whether it is only what heeding the signal leads to: its reason, an error caused by it, or a plain AbortError. */
function isCancellation(error: unknown, lost: LeaseLost): boolean {
  return error === lost || (error instanceof Error && (error.cause === lost || error.name === "AbortError"));
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
