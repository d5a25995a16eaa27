/**
 * The TypeScript client of Runhub: a thin layer over the generated clients.
 *
 * `connect` once and share it. Every RPC is a method of its service (`client.tasks.claimTask({ … })`) that is made again
 * until the server answers, and throws a RunhubError with a `reason` to match on. `client.subscribe` brings events and
 * survives lost connections and restarts of the server. `client.keepLease` keeps a claimed task while it is worked on.
 * The messages and enums are in `runhub/v1`.
 */

/// <reference lib="esnext.disposable" preserve="true" />

export { Code } from "@connectrpc/connect";
export { type Client, type ConnectOptions, connect } from "./client.js";
export { type FieldProblem, OtherLog, type Reason, RunhubError } from "./errors.js";
export { type LeaseKeeper, LeaseLost } from "./lease.js";
export type { Subscription, SubscriptionOptions } from "./subscription.js";
export { json, seconds, value } from "./values.js";
