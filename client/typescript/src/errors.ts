/** Errors by reason. */

import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { ErrorReason } from "./gen/runhub/v1/error_pb.js";

/** The `domain` in the ErrorInfo of every error that a Runhub server returns. */
const DOMAIN = "runhub";

/** The codes of a temporary error without a reason. An answer that breaks off is UNKNOWN or INTERNAL. */
const TEMPORARY_CODES: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Unknown, Code.Internal]);

/**
 * Why the server refused a call: the name of a value of the enum `ErrorReason` in `runhub/v1`, which documents the reasons.
 * The protos list the reasons of each RPC.
 */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/** A reason that this client does not know. The type is not `string`, so that an editor still suggests the known reasons. */
type OtherReason = string & Record<never, never>;

/** The reason with which a client aborts its calls when it is closed. */
export class Closed extends Error {
  constructor() {
    super("the client is closed");
  }
}

/** An invalid field of a request. */
export interface FieldProblem {
  /** The path of the field in the request, such as `tasks[1].title`. */
  readonly field: string;
  /** What is wrong with the field, for people. */
  readonly problem: string;
}

/** The parts of a RunhubError beside its message and code. */
interface ErrorDetails {
  reason?: string | undefined;
  metadata?: Readonly<Record<string, string>>;
  fields?: readonly FieldProblem[];
  retryDelayMs?: number | undefined;
  isPassing?: boolean;
  cause?: unknown;
}

/** Why a call failed. Match on its `reason`, or on its `code` if it has no reason. */
export class RunhubError extends Error {
  override readonly name: string = "RunhubError";
  /** Why the server refused the call. Undefined if the call did not reach the server's handler, or its answer was lost. */
  readonly reason: Reason | OtherReason | undefined;
  /** The gRPC status code. */
  readonly code: Code;
  /** Further facts about the error, as the enum `ErrorReason` documents them. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The invalid fields of the request. */
  readonly fields: readonly FieldProblem[];
  /** How many milliseconds to wait before repeating the call. Undefined if the server gives no delay. */
  readonly retryDelayMs: number | undefined;
  /** Whether the same call may succeed later: the server is down, shutting down or overloaded, or the connection broke. */
  readonly isPassing: boolean;

  /** @internal */
  constructor(message: string, code: Code, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.reason = details.reason;
    this.metadata = details.metadata ?? {};
    this.fields = details.fields ?? [];
    this.retryDelayMs = details.retryDelayMs;
    this.isPassing = details.isPassing ?? false;
  }

  /** Converts any error of a transport to a RunhubError. */
  static from(thrown: unknown): RunhubError {
    if (thrown instanceof RunhubError) {
      return thrown;
    }
    const error = ConnectError.from(thrown);
    const info = error.findDetails(ErrorInfoSchema).find((info) => info.domain === DOMAIN);
    return info === undefined ? lost(error) : refused(error, info.reason, info.metadata);
  }
}

/** The server's log is not the one that the subscription follows, so the subscription's cursor is not valid in it. */
export class OtherLog extends RunhubError {
  override readonly name = "OtherLog";

  /** @internal */
  constructor() {
    super(
      "the server's log_id has changed, so the subscription's cursor is not valid: subscribe without a cursor",
      Code.FailedPrecondition,
    );
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
  return new RunhubError(message, code, { isPassing: TEMPORARY_CODES.has(code), cause: error });
}

/**
 * Returns whether the connection broke or could not be opened. Connect reports CANCELED if the server was killed or a proxy
 * closed the connection, ABORTED if the connection was reset, and INTERNAL for most errors of Node.
 */
function isBroken({ code, cause }: ConnectError): boolean {
  const isErrorOfNode = cause instanceof Error && "code" in cause;
  return code === Code.Canceled || code === Code.Aborted || (code === Code.Internal && isErrorOfNode);
}
