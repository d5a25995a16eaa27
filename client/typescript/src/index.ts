/**
 * This module exports the TypeScript client of Runhub, which is a thin layer over the generated code.
 *
 * Call `connect` once and share the client. Each RPC is a method of its service (`client.tasks.claimTask({ … })`).
 * While the server restarts or is overloaded, the client retries each failed call. If a method throws a RunhubError,
 * match the `reason` of the error.
 *
 * `client.subscribe` returns a subscription to the event log, which resumes after a broken connection or a restart of
 * the server. `client.keepLease` returns a keeper that renews the lease of a claimed task. The module `runhub/v1`
 * exports the messages and enums.
 */

/// <reference lib="esnext.disposable" preserve="true" />

export { Code } from "@connectrpc/connect";
export { type Client, type ConnectOptions, connect } from "./client.js";
export { type FieldProblem, type Reason, RunhubError } from "./errors.js";
export { type LeaseKeeper, LeaseLost } from "./lease.js";
export type { Subscription, SubscriptionOptions } from "./subscription.js";
export { json, seconds, value } from "./values.js";
