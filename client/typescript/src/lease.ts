/** This module renews the lease of a claimed task while an agent executes the task. */

import { EventEmitter, once, setMaxListeners } from "node:events";
import { clearInterval, setInterval } from "node:timers";

import type { JsonValue } from "@bufbuild/protobuf";
import { durationMs, type Value } from "@bufbuild/protobuf/wkt";
import { Code, createClient, type Client as ServiceClient } from "@connectrpc/connect";

import { ClientClosed, RunhubError } from "./errors.js";
import { Limit } from "./limit.js";
import { repeat } from "./repeat.js";
import type { NoRetryTransport } from "./transports.js";
import { type Claim, LeaseState, TaskService } from "./v1.js";
import { value } from "./values.js";

/**
 * Number of heartbeats per lease duration. With three heartbeats, the lease stays live even if two heartbeats are late.
 */
const HEARTBEATS_PER_LEASE = 3;

/**
 * Maximum time between two heartbeats, in milliseconds. The response to a heartbeat notifies the agent that the run is
 * being cancelled. With this maximum, the agent is notified within a third of the default grace period of a
 * cancellation, which is 30 s.
 */
const LONGEST_INTERVAL_MS = 10_000;

/**
 * Minimum lease duration that a server grants, in milliseconds. If a claim has no lease duration, this minimum limits
 * the rate of heartbeats.
 */
const SHORTEST_LEASE_MS = 1_000;

/**
 * Interval of the timer that prevents the exit of the process, in milliseconds. The timer's callback does nothing, so
 * the length of the interval does not matter.
 */
const KEEP_ALIVE_INTERVAL_MS = 1_000_000_000;

/** Maximum time that `run` waits for the function `work` to end after the lease is lost, in milliseconds. */
const CLEANUP_MS = 1_000;

function describeLoss(because: LeaseLost["because"], taskId: string): string {
  switch (because) {
    case "taken":
      return `the lease of task ${taskId} is lost, because the task was requeued, ended, or claimed by another agent: stop the attempt`;
    case "unanswered":
      return `the server answered no heartbeat for task ${taskId} for a whole lease duration, so the lease may be lost: stop the attempt`;
    case "refused":
      return `the server refused a heartbeat for task ${taskId}, so the lease can't be renewed: stop the attempt`;
  }
}

/**
 * The error of a lost lease. The `cause` is the error of the last heartbeat. If `cause` is undefined, the server
 * answered the last heartbeat.
 */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";

  /**
   * The cause of the loss of the lease.
   *
   * - `taken`: The server answered a heartbeat with LOST. The server would reject a report on the task.
   * - `unanswered`: The server has answered no heartbeat for a whole lease duration, or the client was closed. Another
   *   agent may hold the lease of the task. If no agent has claimed the task, the server still accepts a report.
   * - `refused`: The server refused a heartbeat and would refuse the same heartbeat again, for example because the
   *   progress exceeds 1 MiB.
   */
  readonly because: "taken" | "unanswered" | "refused";
  /**
   * The error with which the function `work` failed after the loss of the lease, for example during a cleanup. If
   * `workError` is undefined, `work` did not fail.
   */
  readonly workError: unknown;

  /** @internal */
  constructor(because: LeaseLost["because"], taskId: string, cause?: unknown, workError?: unknown) {
    super(describeLoss(because, taskId), cause === undefined ? undefined : { cause });
    this.because = because;
    this.workError = workError;
  }
}

/**
 * Renews a lease with heartbeats in the background. The keeper sends the first heartbeat immediately. The interval
 * between heartbeats is a third of the lease duration, but at most 10 s.
 *
 * Call `run` with the function `work`, then report on the task, then dispose the keeper. Report on the task only after
 * `run` has returned. If `work` itself completed the task, the server could answer the next heartbeat with LOST, and
 * `run` would then throw LeaseLost although the task is COMPLETED.
 */
export class LeaseKeeper implements AsyncDisposable {
  readonly #tasks: ServiceClient<typeof TaskService>;
  readonly #closed: AbortSignal;
  readonly #leaseToken: string;
  /** The id of the claimed task. If the claim has no task, the id is empty. */
  readonly #taskId: string;
  readonly #leaseMs: number;
  readonly #lost = new AbortController();
  readonly #stopped = new AbortController();
  /** The emitter of the event `change`, which occurs when the state changes or the keeper is stopped. */
  readonly #changes = new EventEmitter().setMaxListeners(0);
  /** The promise that resolves when the keeper has stopped sending heartbeats. */
  readonly #heartbeats: Promise<void>;
  #state = LeaseState.EXTENDED;
  /**
   * The latest progress that no answered heartbeat has carried. If `#progress` is undefined, there is no progress to
   * send.
   */
  #progress: Value | undefined;
  /**
   * The time at which the last answered heartbeat was sent, or at which the keeper started. The server extends the
   * lease from a later time. Therefore, the lease is live for at least its duration after this time, even if the clocks
   * of client and server differ.
   */
  #extendedFrom = performance.now();

  /** @internal Call `Client.keepLease` to create a keeper. */
  constructor(single: NoRetryTransport, claim: Claim) {
    this.#tasks = createClient(TaskService, single);
    this.#closed = single.closed;
    this.#leaseToken = claim.leaseToken;
    this.#taskId = claim.task?.id ?? "";
    const durationOfClaim = claim.leaseDuration === undefined ? 0 : durationMs(claim.leaseDuration);
    this.#leaseMs = Math.max(durationOfClaim, SHORTEST_LEASE_MS);
    setMaxListeners(0, this.#lost.signal);
    this.#heartbeats = this.#sendUntilLost();
  }

  /** The signal that is aborted when the lease is lost. The reason for the abort is a LeaseLost. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /**
   * The lease state in the server's last response to a heartbeat. Before the first response, the state is EXTENDED.
   * After the loss of the lease, the state is LOST.
   */
  get state(): LeaseState {
    return this.#state;
  }

  /**
   * Runs the function `work` while the keeper renews the lease, and returns the result of `work`. If the lease is lost,
   * `this.signal` is aborted, and `work` has 1 s to clean up. After this time, `run` throws even if `work` has not
   * ended. The caller must then end `work`.
   *
   * If the run is paused or is being cancelled, the keeper continues to renew the lease, and the server accepts a
   * report. If `work` must stop when the run is paused or is being cancelled, `work` must wait for `pauseRequested` or
   * `cancelRequested`.
   *
   * @throws LeaseLost if the lease is lost before `work` ends. If `work` also fails, the `workError` of the LeaseLost
   *   is the error of `work`. If the lease is not lost, `run` throws the error of `work` unchanged.
   */
  async run<T>(work: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
    // If the lease is already lost, another agent may hold the lease of the task, so `work` must not start.
    this.signal.throwIfAborted();
    // The timers of the heartbeats do not prevent the exit of the process. Without this timer, the process would exit
    // while `work` waits only for the signal.
    const alive = setInterval(() => {}, KEEP_ALIVE_INTERVAL_MS);
    using lost = rejectWhenAborted(this.signal);
    const ended = (async () => await work(this.signal))();
    try {
      const result = await Promise.race([lost.promise, ended]);
      this.signal.throwIfAborted();
      return result;
    } catch (error) {
      throw this.signal.aborted ? await addWorkError(this.signal.reason, this.#taskId, ended) : error;
    } finally {
      clearInterval(alive);
    }
  }

  /**
   * Sets the progress that the next heartbeat carries: any JSON value of at most 1 MiB. A new progress replaces a
   * progress that no answered heartbeat has carried. After the server has answered a heartbeat, the keeper does not
   * send the heartbeat's progress again.
   */
  progress(json: JsonValue): void {
    this.#progress = value(json);
  }

  /**
   * Waits until the run is being cancelled. The agent should then complete or release the task before the grace period
   * ends.
   *
   * @throws LeaseLost if the lease is lost during the wait, or RunhubError with CANCELLED if the keeper is stopped
   *   during the wait.
   */
  cancelRequested(): Promise<void> {
    return this.#reached(LeaseState.CANCEL_REQUESTED);
  }

  /**
   * Waits until the run is paused. The agent should then stop at the next point from which the agent can continue
   * later. The keeper continues to renew the lease.
   *
   * @throws LeaseLost if the lease is lost during the wait, or RunhubError with CANCELLED if the keeper is stopped
   *   during the wait.
   */
  pauseRequested(): Promise<void> {
    return this.#reached(LeaseState.PAUSE_REQUESTED);
  }

  /**
   * Waits until a paused run is resumed. If the run is neither paused nor being cancelled, the method returns
   * immediately.
   *
   * @throws LeaseLost if the lease is lost during the wait, or RunhubError with CANCELLED if the keeper is stopped
   *   during the wait.
   */
  resumed(): Promise<void> {
    return this.#reached(LeaseState.EXTENDED);
  }

  /** Stops the heartbeats. The lease stays live until the lease expires or a report ends the attempt. */
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
    // If the caller does not await the returned promise, an unhandled rejection would end the process.
    reached.catch(() => {});
    return reached;
  }

  async #waitForState(wanted: LeaseState): Promise<void> {
    while (this.#state !== wanted) {
      this.signal.throwIfAborted();
      if (this.#stopped.signal.aborted) {
        throw new RunhubError(
          `the lease keeper of task ${this.#taskId} is stopped: call keepLease again to renew the lease`,
          Code.Canceled,
        );
      }
      await once(this.#changes, "change");
    }
  }

  /** Sends heartbeats until the lease is lost or the keeper is stopped. */
  async #sendUntilLost(): Promise<void> {
    const intervalMs = Math.min(this.#leaseMs / HEARTBEATS_PER_LEASE, LONGEST_INTERVAL_MS);
    // When the client is closed, the pause between two heartbeats ends, and the next heartbeat fails immediately and
    // reports the loss of the lease.
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

  /**
   * Sends one heartbeat and returns the state of the lease. The method retries the heartbeat until the server answers
   * or the lease may have expired.
   *
   * @throws LeaseLost if the server answers LOST, or RunhubError if the server refuses the heartbeat or does not answer
   *   within the lease duration.
   */
  async #sendHeartbeat(): Promise<LeaseState> {
    const leftMs = this.#extendedFrom + this.#leaseMs - performance.now();
    using limit = new Limit(leftMs, [this.#stopped.signal, this.#closed], { ref: false });
    const state = await repeat(limit, () => this.#tryHeartbeat(limit.signal), isUnanswered);
    if (state === LeaseState.LOST) {
      throw new LeaseLost("taken", this.#taskId);
    }
    return state;
  }

  /**
   * Sends the heartbeat once and returns the state of the lease. The time limit of the call leaves time for a retry,
   * because the server does not answer a call on a broken connection.
   */
  async #tryHeartbeat(signal: AbortSignal): Promise<LeaseState> {
    const progress = this.#progress;
    const sentAt = performance.now();
    const beat = { leaseToken: this.#leaseToken, ...(progress && { progress }) };
    const timeoutMs = this.#leaseMs / HEARTBEATS_PER_LEASE;
    const { results } = await this.#tasks.heartbeat({ beats: [beat] }, { signal, timeoutMs });
    const [result] = results;
    if (result === undefined) {
      throw new RunhubError(
        `the server answered the heartbeat for task ${this.#taskId} without a result: report the bug`,
        Code.Unavailable,
        { isTemporary: true },
      );
    }
    this.#extendedFrom = sentAt;
    // If the agent has set a new progress since the heartbeat was sent, the next heartbeat must carry the new progress.
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
    this.#lost.abort(error instanceof LeaseLost ? error : toLeaseLost(RunhubError.from(error), this.#taskId));
    this.#changes.emit("change");
  }
}

function isUnanswered(error: RunhubError): boolean {
  return error.isTemporary || error.code === Code.DeadlineExceeded;
}

/** Returns the LeaseLost for the error of the last heartbeat. */
function toLeaseLost(error: RunhubError, taskId: string): LeaseLost {
  const isClosed = error.cause instanceof ClientClosed;
  return new LeaseLost(isClosed || isUnanswered(error) ? "unanswered" : "refused", taskId, error);
}

/**
 * Waits at most CLEANUP_MS (1 s) for the function `work` to end. If `work` fails with an error other than the
 * cancellation, addWorkError returns a LeaseLost with this error as its `workError`. Otherwise, addWorkError returns
 * `lost`.
 */
async function addWorkError(lost: LeaseLost, taskId: string, ended: Promise<unknown>): Promise<LeaseLost> {
  using limit = new Limit(CLEANUP_MS, []);
  const timedOut = once(limit.signal, "abort").then(() => undefined);
  const failed = ended.then(
    () => undefined,
    (error: unknown) => error,
  );
  const workError = await Promise.race([timedOut, failed]);
  const isOwnError = workError !== undefined && !isCancellation(workError, lost);
  return isOwnError ? new LeaseLost(lost.because, taskId, lost.cause, workError) : lost;
}

/**
 * Returns whether the error reports only that the signal was aborted. The error is then the signal's reason, has this
 * reason as its cause, or is an AbortError.
 */
function isCancellation(error: unknown, lost: LeaseLost): boolean {
  return error === lost || (error instanceof Error && (error.cause === lost || error.name === "AbortError"));
}

/**
 * Returns a promise that is rejected with the signal's reason when the signal is aborted. To remove the listener
 * from the signal, dispose the returned object.
 */
function rejectWhenAborted(signal: AbortSignal): Disposable & { readonly promise: Promise<never> } {
  let abort = () => {};
  const promise = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
  });
  signal.addEventListener("abort", abort);
  return { promise, [Symbol.dispose]: () => signal.removeEventListener("abort", abort) };
}
