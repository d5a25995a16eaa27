/**
 * The TypeScript client of Runhub: a thin layer over the generated code.
 *
 * Call `connect` once and share the client. Each RPC is a method of its service (`client.tasks.claimTask({ … })`). A call is
 * repeated while the server restarts or is overloaded, and throws a RunhubError with a `reason` to match on.
 * `client.subscribe` follows the event log through broken connections and restarts of the server. `client.keepLease` keeps
 * the lease of a claimed task during the work. The messages and enums are in `runhub/v1`.
 */

/// <reference lib="esnext.disposable" preserve="true" />

export { Code } from "@connectrpc/connect";
export { type Client, type ConnectOptions, connect } from "./client.js";
export { type FieldProblem, OtherLog, type Reason, RunhubError } from "./errors.js";
export { type LeaseKeeper, LeaseLost } from "./lease.js";
export type { Subscription, SubscriptionOptions } from "./subscription.js";
export { json, seconds, value } from "./values.js";
