/** Keeping the lease of a claimed task during the work. */

import { EventEmitter, once, setMaxListeners } from "node:events";
import { clearInterval, setInterval } from "node:timers";

import type { JsonValue } from "@bufbuild/protobuf";
import { durationMs, type Value } from "@bufbuild/protobuf/wkt";
import { Code, createClient, type Client as ServiceClient } from "@connectrpc/connect";

import { Closed, RunhubError } from "./errors.js";
import { Limit } from "./limit.js";
import { repeat } from "./repeat.js";
import type { SingleTryTransport } from "./transports.js";
import { type Claim, LeaseState, TaskService } from "./v1.js";
import { value } from "./values.js";

/** With three heartbeats per lease duration, two may be late without losing the lease. */
const HEARTBEATS_PER_LEASE = 3;

/**
 * The longest time between two heartbeats. The holder learns of a request to stop with the next heartbeat, and the usual
 * grace of a cancellation is 30 s.
 */
const LONGEST_INTERVAL_MS = 10_000;

/** The shortest lease that a server grants. It limits the rate of heartbeats if a claim has no lease duration. */
const SHORTEST_LEASE_MS = 1_000;

/** The interval of a timer that only keeps the process alive. Its value does not matter. */
const KEEP_ALIVE_INTERVAL_MS = 1_000_000_000;

/** How long `run` waits after a loss for an error of the work. */
const CLEANUP_MS = 1_000;

const LOST_TEXTS = {
  taken: "the lease is lost: the task was requeued, moved, or claimed by another agent",
  unanswered: "the lease may be lost: the server has answered no heartbeat for a whole lease duration",
  refused: "the lease can't be kept: the server refuses its heartbeats",
};

/** The lease was lost. The `cause` is the error of the last heartbeat, or undefined if the server answered it. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";

  /**
   * Why the lease is lost.
   *
   * - `taken`: the server answered LOST. It would reject a report.
   * - `unanswered`: the server has answered no heartbeat for a whole lease duration, or the client was closed. Another agent
   *   may hold the task. The server still accepts a report if no agent has claimed the task.
   * - `refused`: the server refused a heartbeat and would refuse it again, for example because its progress is over 1 MiB.
   */
  readonly because: "taken" | "unanswered" | "refused";
  /** The error with which the work itself failed after the loss, for example during its cleanup. Undefined if none. */
  readonly workError: unknown;

  /** @internal */
  constructor(because: LeaseLost["because"], cause?: unknown, workError?: unknown) {
    super(LOST_TEXTS[because], cause === undefined ? undefined : { cause });
    this.because = because;
    this.workError = workError;
  }
}

/**
 * Keeps a lease with heartbeats in the background: one at once, and further ones after a third of the lease duration, but at
 * least every 10 s.
 *
 * A holder runs the work with `run`, reports on the task, and disposes the keeper. Report outside of `run`: a heartbeat that
 * is sent after the completion is answered LOST, so `run` would not wait for the answer to the report.
 */
export class LeaseKeeper implements AsyncDisposable {
  readonly #tasks: ServiceClient<typeof TaskService>;
  readonly #closed: AbortSignal;
  readonly #leaseToken: string;
  readonly #leaseMs: number;
  readonly #lost = new AbortController();
  readonly #stopped = new AbortController();
  /** Emits `change` when the state changes, and when the keeper is stopped. */
  readonly #changes = new EventEmitter().setMaxListeners(0);
  /** Resolves when no further heartbeat is sent. */
  readonly #heartbeats: Promise<void>;
  #state = LeaseState.EXTENDED;
  /** The latest progress that no answered heartbeat has carried. Undefined if there is none. */
  #progress: Value | undefined;
  /**
   * When the last answered heartbeat was sent, or when the keeper began. The server extends the lease from a later time, so
   * the lease is valid for at least its duration from here, whatever the clocks say.
   */
  #extendedFrom = performance.now();

  /** @internal Use `Client.keepLease`. */
  constructor(single: SingleTryTransport, claim: Claim) {
    this.#tasks = createClient(TaskService, single);
    this.#closed = single.closed;
    this.#leaseToken = claim.leaseToken;
    const durationOfClaim = claim.leaseDuration === undefined ? 0 : durationMs(claim.leaseDuration);
    this.#leaseMs = Math.max(durationOfClaim, SHORTEST_LEASE_MS);
    setMaxListeners(0, this.#lost.signal);
    this.#heartbeats = this.#sendUntilLost();
  }

  /** Aborted when the lease is lost, with a LeaseLost as its reason. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /** The state in the last answered heartbeat: EXTENDED before the first one, LOST once the lease is lost. */
  get state(): LeaseState {
    return this.#state;
  }

  /**
   * Runs the work while the lease is kept. The work gets `this.signal`, which is aborted when the lease is lost. The work
   * then has 1 s to clean up. After that time `run` returns even if the work has not ended; such work must be ended by the
   * caller.
   *
   * A request to stop does not end the work: the keeper goes on keeping the lease, and the server accepts a report. Work
   * that should stop must also wait for `cancelRequested`.
   *
   * @throws LeaseLost if the lease is lost before the work ends. An error of the work is then its `workError`. Without a
   *   loss, `run` throws the work's error unchanged.
   */
  async run<T>(work: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
    // Work is not begun after the lease is lost.
    this.signal.throwIfAborted();
    // Heartbeats don't keep the process alive, but the work must, even if it only waits for the signal.
    const alive = setInterval(() => {}, KEEP_ALIVE_INTERVAL_MS);
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
   * Sets the progress that the next heartbeat carries: any JSON of at most 1 MiB. It replaces a progress that is not answered
   * yet. An answered progress is not sent again.
   */
  progress(json: JsonValue): void {
    this.#progress = value(json);
  }

  /**
   * Waits until the run is being cancelled. The task should then be finished or released within the grace.
   *
   * @throws LeaseLost if the lease is lost before. RunhubError with CANCELED if the keeper is stopped before.
   */
  cancelRequested(): Promise<void> {
    return this.#reached(LeaseState.CANCEL_REQUESTED);
  }

  /**
   * Waits until the run is paused. The work should then stop at a good point; the keeper goes on keeping the lease.
   *
   * @throws LeaseLost if the lease is lost before. RunhubError with CANCELED if the keeper is stopped before.
   */
  pauseRequested(): Promise<void> {
    return this.#reached(LeaseState.PAUSE_REQUESTED);
  }

  /**
   * Waits until a paused run is resumed. Returns at once if the run is neither paused nor being cancelled.
   *
   * @throws LeaseLost if the lease is lost before. RunhubError with CANCELED if the keeper is stopped before.
   */
  resumed(): Promise<void> {
    return this.#reached(LeaseState.EXTENDED);
  }

  /** Stops the heartbeats. The lease itself is valid until it expires or the task is reported on. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#changes.emit("change");
    await this.#heartbeats;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #reached(wanted: LeaseState): Promise<void> {
    const reached = this.#waitForState(wanted);
    // A caller that no longer awaits this promise need not catch its rejection.
    reached.catch(() => {});
    return reached;
  }

  async #waitForState(wanted: LeaseState): Promise<void> {
    while (this.#state !== wanted) {
      this.signal.throwIfAborted();
      if (this.#stopped.signal.aborted) {
        throw new RunhubError("the lease keeper is stopped, so it no longer learns of requests to stop", Code.Canceled);
      }
      await once(this.#changes, "change");
    }
  }

  /** Sends heartbeats until the lease is lost or the keeper is stopped. */
  async #sendUntilLost(): Promise<void> {
    const intervalMs = Math.min(this.#leaseMs / HEARTBEATS_PER_LEASE, LONGEST_INTERVAL_MS);
    // If the close of the client ends the pause, the next heartbeat fails at once.
    using limit = new Limit(undefined, [this.#stopped.signal, this.#closed], { ref: false });
    while (!this.#stopped.signal.aborted) {
      try {
        this.#setState(await this.#sendHeartbeat());
      } catch (error) {
        this.#setLost(error);
        return;
      }
      await limit.pause(this.#extendedFrom + intervalMs - performance.now());
    }
  }

  /** Sends one heartbeat, and repeats it until it is answered or the lease may have expired. Throws why the lease is lost. */
  async #sendHeartbeat(): Promise<LeaseState> {
    const leftMs = this.#extendedFrom + this.#leaseMs - performance.now();
    using limit = new Limit(leftMs, [this.#stopped.signal, this.#closed], { ref: false });
    const state = await repeat(limit, () => this.#tryHeartbeat(limit.signal), isUnanswered);
    if (state === LeaseState.LOST) {
      throw new LeaseLost("taken");
    }
    return state;
  }

  /** Makes one try. A try that hangs, for example on a dead connection, must leave time for another one. */
  async #tryHeartbeat(signal: AbortSignal): Promise<LeaseState> {
    const progress = this.#progress;
    const sentAt = performance.now();
    const beat = { leaseToken: this.#leaseToken, ...(progress && { progress }) };
    const timeoutMs = this.#leaseMs / HEARTBEATS_PER_LEASE;
    const { results } = await this.#tasks.heartbeat({ beats: [beat] }, { signal, timeoutMs });
    const [result] = results;
    if (result === undefined) {
      throw new RunhubError("the answer has no result for the heartbeat", Code.Unavailable, { isPassing: true });
    }
    this.#extendedFrom = sentAt;
    // A progress that was set in the meantime is sent with the next heartbeat.
    if (this.#progress === progress) {
      this.#progress = undefined;
    }
    return result.state;
  }

  #setState(state: LeaseState): void {
    this.#state = state;
    this.#changes.emit("change");
  }

  #setLost(error: unknown): void {
    if (this.#stopped.signal.aborted) {
      return;
    }
    this.#state = LeaseState.LOST;
    this.#lost.abort(error instanceof LeaseLost ? error : lostBy(RunhubError.from(error)));
    this.#changes.emit("change");
  }
}

function isUnanswered(error: RunhubError): boolean {
  return error.isPassing || error.code === Code.DeadlineExceeded;
}

/** Returns the loss that the error of the last try means. */
function lostBy(error: RunhubError): LeaseLost {
  const isClosed = error.cause instanceof Closed;
  return new LeaseLost(isClosed || isUnanswered(error) ? "unanswered" : "refused", error);
}

/** Returns the loss, with the error of the work if the work fails with an error of its own within CLEANUP_MS. */
async function withWorkError(lost: LeaseLost, ended: Promise<unknown>): Promise<LeaseLost> {
  using limit = new Limit(CLEANUP_MS, []);
  const timedOut = once(limit.signal, "abort").then(() => undefined);
  const failed = ended.then(
    () => undefined,
    (error: unknown) => error,
  );
  const workError = await Promise.race([timedOut, failed]);
  const isOwnError = workError !== undefined && !isCancellation(workError, lost);
  return isOwnError ? new LeaseLost(lost.because, lost.cause, workError) : lost;
}

/**
 * Returns whether the error means only that the signal was aborted: the error is the signal's reason, is caused by this
 * reason, or is an AbortError.
 */
function isCancellation(error: unknown, lost: LeaseLost): boolean {
  return error === lost || (error instanceof Error && (error.cause === lost || error.name === "AbortError"));
}

/** Returns a promise that is rejected with the signal's reason when the signal is aborted. Dispose it to stop listening. */
function whenAborted(signal: AbortSignal): Disposable & { readonly promise: Promise<never> } {
  let abort = () => {};
  const promise = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
  });
  signal.addEventListener("abort", abort);
  return { promise, [Symbol.dispose]: () => signal.removeEventListener("abort", abort) };
}
