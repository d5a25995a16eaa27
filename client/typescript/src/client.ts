/** This module defines the client, which holds the connections to a server and has a property for each service. */

import { setMaxListeners } from "node:events";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient, type Client as ServiceClient } from "@connectrpc/connect";

import { parseAddress } from "./address.js";
import { Connections } from "./connections.js";
import { ClientClosed } from "./errors.js";
import { LeaseKeeper } from "./lease.js";
import { Subscription, type SubscriptionOptions } from "./subscription.js";
import { NoRetryTransport, RetryTransport } from "./transports.js";
import {
  AgentService,
  ApprovalService,
  ArtifactService,
  CheckpointService,
  type Claim,
  EventService,
  RunService,
  ServerService,
  type SubscribeEventsRequestSchema,
  TaskService,
} from "./v1.js";

const DEFAULT_SERVER = "127.0.0.1:50051";
const DEFAULT_DEADLINE_MS = 30_000;

/** The options of `connect`. */
export interface ConnectOptions {
  /**
   * The time limit for a call and all retries, in milliseconds. The client adds the `wait` of the request to the limit.
   * If a call has its own `timeoutMs`, `timeoutMs` replaces the limit. Default: 30 s.
   */
  deadlineMs?: number;
}

/**
 * Returns a client for the server at `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`. The client connects at the first
 * call. For streams and for calls with a `wait`, the client opens further connections. If a connection breaks, the
 * client reconnects.
 *
 * @throws RunhubError with INVALID_ARGUMENT if `server` is not HOST:PORT, http://HOST:PORT or unix:PATH.
 */
export function connect(server = DEFAULT_SERVER, { deadlineMs = DEFAULT_DEADLINE_MS }: ConnectOptions = {}): Client {
  return new Client(server, deadlineMs);
}

/**
 * A client of a server. Each property is a service, and each method of a service is an RPC. If an RPC fails, its method
 * throws a RunhubError.
 */
export class Client implements AsyncDisposable {
  readonly runs: ServiceClient<typeof RunService>;
  readonly agents: ServiceClient<typeof AgentService>;
  readonly tasks: ServiceClient<typeof TaskService>;
  readonly events: ServiceClient<typeof EventService>;
  readonly approvals: ServiceClient<typeof ApprovalService>;
  readonly checkpoints: ServiceClient<typeof CheckpointService>;
  readonly artifacts: ServiceClient<typeof ArtifactService>;
  readonly server: ServiceClient<typeof ServerService>;

  readonly #connections: Connections;
  readonly #single: NoRetryTransport;
  readonly #deadlineMs: number;
  readonly #closed = new AbortController();

  /** @internal Call `connect` to create a client. */
  constructor(server: string, deadlineMs: number) {
    // Each running call adds a listener to this signal. If a signal has more than 10 listeners, Node prints a warning
    // by default.
    setMaxListeners(0, this.#closed.signal);
    this.#connections = new Connections(parseAddress(server), this.#closed.signal);
    this.#single = new NoRetryTransport(this.#connections, this.#closed.signal);
    this.#deadlineMs = deadlineMs;
    const transport = new RetryTransport(this.#single, deadlineMs);
    this.runs = createClient(RunService, transport);
    this.agents = createClient(AgentService, transport);
    this.tasks = createClient(TaskService, transport);
    this.events = createClient(EventService, transport);
    this.approvals = createClient(ApprovalService, transport);
    this.checkpoints = createClient(CheckpointService, transport);
    this.artifacts = createClient(ArtifactService, transport);
    this.server = createClient(ServerService, transport);
  }

  /**
   * Returns a subscription to events. When a loop iterates over the subscription, the subscription connects. If the
   * connection breaks, the subscription resumes after the last received position.
   *
   * To continue an earlier subscription, set `afterPosition` and `logId` of the request to the earlier subscription's
   * `position` and `logId`. If the server has another log, the new subscription throws a RunhubError with the reason
   * LOG_CHANGED.
   */
  subscribe(
    request: MessageInitShape<typeof SubscribeEventsRequestSchema> = {},
    options: SubscriptionOptions = {},
  ): Subscription {
    return new Subscription(this.#single, this.#deadlineMs, request, options);
  }

  /**
   * Returns a keeper that renews the lease of a claim with heartbeats in the background until the keeper is disposed.
   */
  keepLease(claim: Claim): LeaseKeeper {
    return new LeaseKeeper(this.#single, claim);
  }

  /**
   * Closes all connections. Running calls and later calls fail with CANCELLED. Each running lease keeper reports its
   * lease as lost with the cause `unanswered`, because the client sends no further heartbeats.
   */
  async close(): Promise<void> {
    this.#closed.abort(new ClientClosed());
    this.#connections.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
