/** Errors by reason. */

import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** Of the ErrorInfo of every refusal by a Runhub server. */
const DOMAIN = "runhub";

/** What may pass without a reason. An answer that breaks off half-way is UNKNOWN or INTERNAL. */
const PASSING: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Unknown, Code.Internal]);

/** Why the server refused a call. The protos say which RPC gives which. */
export type Reason =
  | "INVALID_FIELD"
  | "DEPENDENCY_CYCLE"
  | "REQUEST_ID_REUSED"
  | "RUN_NOT_FOUND"
  | "TASK_NOT_FOUND"
  | "APPROVAL_NOT_FOUND"
  | "CHECKPOINT_NOT_FOUND"
  | "STALE_LEASE"
  | "LEASE_REQUIRED"
  | "WRONG_STATUS"
  | "RUN_ENDED"
  | "ALREADY_DECIDED"
  | "NOT_APPROVED"
  | "ALREADY_CONSUMED"
  | "DIGEST_MISMATCH"
  | "SNAPSHOT_TOO_LARGE"
  | "REVISION_MISMATCH"
  | "PLAN_VERSION_MISMATCH"
  | "POSITION_IN_FUTURE"
  | "POSITION_COMPACTED"
  | "OVERLOADED"
  | "DRAINING"
  | "STORE_BUSY"
  | "INTERNAL";

/** A reason that this client does not know yet. Written so that an editor still offers the known ones. */
type OtherReason = string & Record<never, never>;

/** What a client aborts its calls with when it is closed. */
export class Closed extends Error {
  constructor() {
    super("the client is closed");
  }
}

/** A field that could not be taken. */
export interface FieldProblem {
  /** Its path in the request: `tasks[1].title`. */
  readonly field: string;
  /** What is wrong with it, for people. */
  readonly problem: string;
}

/** What a RunhubError says beside its message. */
interface Particulars {
  reason?: string | undefined;
  metadata?: Readonly<Record<string, string>>;
  fields?: readonly FieldProblem[];
  retryDelayMs?: number | undefined;
  isPassing?: boolean;
  cause?: unknown;
}

/** Why a call did not do what it was for. Match on its `reason`, or on its `code` when it has none. */
export class RunhubError extends Error {
  override readonly name: string = "RunhubError";
  /** What the server refused it for; undefined if it never reached a handler, or its answer got lost. */
  readonly reason: Reason | OtherReason | undefined;
  /** gRPC's code. */
  readonly code: Code;
  /** The particulars that the reason documents. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The fields that could not be taken. */
  readonly fields: readonly FieldProblem[];
  /** When to make the same call again, in milliseconds from now, if the server has said so. */
  readonly retryDelayMs: number | undefined;
  /** The same call may well succeed later: the server is away, shutting down or too busy, or the connection broke. */
  readonly isPassing: boolean;

  /** @internal */
  constructor(message: string, code: Code, particulars: Particulars = {}) {
    super(message, particulars.cause === undefined ? undefined : { cause: particulars.cause });
    this.code = code;
    this.reason = particulars.reason;
    this.metadata = particulars.metadata ?? {};
    this.fields = particulars.fields ?? [];
    this.retryDelayMs = particulars.retryDelayMs;
    this.isPassing = particulars.isPassing ?? false;
  }

  /** From whatever a transport throws. */
  static from(thrown: unknown): RunhubError {
    if (thrown instanceof RunhubError) {
      return thrown;
    }
    const error = ConnectError.from(thrown);
    const info = error.findDetails(ErrorInfoSchema).find((info) => info.domain === DOMAIN);
    return info === undefined ? lost(error) : refused(error, info.reason, info.metadata);
  }
}

/** The server has another database than when the subscription began, in which its cursor means nothing. */
export class OtherLog extends RunhubError {
  override readonly name = "OtherLog";

  /** @internal */
  constructor() {
    super("the server's log is another one now: a cursor of the old one means nothing in it", Code.FailedPrecondition);
  }
}

function refused(error: ConnectError, reason: string, metadata: Record<string, string>): RunhubError {
  const violations = error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations);
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return new RunhubError(`${reason}: ${error.rawMessage}`, error.code, {
    reason,
    metadata,
    fields: violations.map(({ field, description }) => ({ field, problem: description })),
    retryDelayMs: delay === undefined ? undefined : durationMs(delay),
    isPassing: error.code === Code.Unavailable || reason === "OVERLOADED",
    cause: error,
  });
}

function lost(error: ConnectError): RunhubError {
  const { message, code } = isBroken(error) ? new ConnectError(error.rawMessage, Code.Unavailable) : error;
  return new RunhubError(message, code, { isPassing: PASSING.has(code), cause: error });
}

/**
 * Whether the connection broke, or there was none. Connect says CANCELED when the server was killed or a proxy hung up,
 * ABORTED when the connection was reset, and INTERNAL for most of what Node meets.
 */
function isBroken({ code, cause }: ConnectError): boolean {
  const isNodes = cause instanceof Error && "code" in cause;
  return code === Code.Canceled || code === Code.Aborted || (code === Code.Internal && isNodes);
}
