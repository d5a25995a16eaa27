/** This module converts the errors of calls to RunhubError. */

import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { ErrorReason } from "./gen/runhub/v1/error_pb.js";

/** The `domain` in the ErrorInfo of every error that a Runhub server returns. */
const DOMAIN = "runhub";

/**
 * The gRPC status codes that mark an error without a reason as temporary. If a connection breaks during a response, the
 * code is UNKNOWN or INTERNAL.
 */
const TEMPORARY_CODES: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Unknown, Code.Internal]);

/**
 * The reason for which the server refused a call. Each reason is the name of a value of the enum `ErrorReason` in
 * `runhub/v1`, without the prefix `ERROR_REASON_`. The comments of `ErrorReason` explain the reasons, and the comments
 * of the RPCs list the reasons of each RPC.
 */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/**
 * A reason that this client does not know. If this type were `string`, an editor would not suggest the known reasons.
 */
type OtherReason = string & Record<never, never>;

/** The error with which a closed client aborts its calls. */
export class ClientClosed extends Error {
  constructor() {
    super("the client is closed: create a new client");
  }
}

/** An invalid field of a request. */
export interface FieldProblem {
  /** The path of the field in the request, such as `tasks[1].title`. */
  readonly field: string;
  /** A description of the problem for human readers. */
  readonly problem: string;
}

/** The properties of a RunhubError other than its message and its code. */
interface ErrorDetails {
  reason?: string | undefined;
  metadata?: Readonly<Record<string, string>>;
  fields?: readonly FieldProblem[];
  retryDelayMs?: number | undefined;
  isTemporary?: boolean;
  cause?: unknown;
}

/**
 * The error of a failed call. Callers should match the `reason`. If the error has no reason, callers should match the
 * `code`.
 */
export class RunhubError extends Error {
  override readonly name: string = "RunhubError";
  /**
   * The reason for which the server refused the call. If `reason` is undefined, no handler of the server answered the
   * call, or a proxy or a broken connection dropped the response.
   */
  readonly reason: Reason | OtherReason | undefined;
  /** The gRPC status code of the error. */
  readonly code: Code;
  /**
   * The metadata of the error. The comments of the enum `ErrorReason` list the keys of each reason. If the error has no
   * metadata, the record is empty.
   */
  readonly metadata: Readonly<Record<string, string>>;
  /** The invalid fields of the request. If the reason is not INVALID_FIELD, the list is empty. */
  readonly fields: readonly FieldProblem[];
  /**
   * The time to wait before a retry of the call, in milliseconds. If `retryDelayMs` is undefined, the server has set no
   * delay.
   */
  readonly retryDelayMs: number | undefined;
  /**
   * If the server is down, shutting down or overloaded, or if the connection broke, the value is true: the error is
   * temporary, and a retry may succeed.
   */
  readonly isTemporary: boolean;

  /** @internal */
  constructor(message: string, code: Code, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.reason = details.reason;
    this.metadata = details.metadata ?? {};
    this.fields = details.fields ?? [];
    this.retryDelayMs = details.retryDelayMs;
    this.isTemporary = details.isTemporary ?? false;
  }

  /**
   * Returns the RunhubError for an error of a transport. If the error is a RunhubError, the function returns the error
   * itself.
   */
  static from(thrown: unknown): RunhubError {
    if (thrown instanceof RunhubError) {
      return thrown;
    }
    const error = ConnectError.from(thrown);
    const info = error.findDetails(ErrorInfoSchema).find((info) => info.domain === DOMAIN);
    return info === undefined ? convertConnectionError(error) : convertRefusal(error, info.reason, info.metadata);
  }
}

function convertRefusal(error: ConnectError, reason: string, metadata: Record<string, string>): RunhubError {
  const violations = error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations);
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return new RunhubError(`${reason}: ${error.rawMessage}`, error.code, {
    reason,
    metadata,
    fields: violations.map(({ field, description }) => ({ field, problem: description })),
    retryDelayMs: delay === undefined ? undefined : durationMs(delay),
    isTemporary: error.code === Code.Unavailable || reason === ("OVERLOADED" satisfies Reason),
    cause: error,
  });
}

function convertConnectionError(error: ConnectError): RunhubError {
  const { message, code } = isConnectionBroken(error) ? new ConnectError(error.rawMessage, Code.Unavailable) : error;
  return new RunhubError(message, code, { isTemporary: TEMPORARY_CODES.has(code), cause: error });
}

/**
 * Returns whether the connection broke or could not be opened. If the server was killed or a proxy closed the
 * connection, Connect reports CANCELLED. If the connection was reset, Connect reports ABORTED. For most errors of Node,
 * Connect reports INTERNAL.
 */
function isConnectionBroken({ code, cause }: ConnectError): boolean {
  const isErrorOfNode = cause instanceof Error && "code" in cause;
  return code === Code.Canceled || code === Code.Aborted || (code === Code.Internal && isErrorOfNode);
}
