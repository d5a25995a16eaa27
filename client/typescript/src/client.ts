/** The connection to a server, with its services. */

import { setMaxListeners } from "node:events";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient, type Client as ServiceClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { type Address, dial, parseAddress } from "./address.js";
import { Closed } from "./errors.js";
import { LeaseKeeper } from "./lease.js";
import { Subscription, type SubscriptionOptions } from "./subscription.js";
import { RetryTransport, SingleTryTransport } from "./transports.js";
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

/** The largest answer is a snapshot. */
const MAX_RESPONSE_BYTES = 16 * 1024 * 1024;

/**
 * How often the connection is checked while a call or a stream is open, so that a server that has disappeared is noticed. An
 * idle connection is checked before its next use. connect-node's option `pingIdleConnection` is not set, because it would
 * ping a connection after its close and then crash.
 */
const PING_INTERVAL_MS = 20_000;

/** How many bytes of a stream the client buffers before the reader takes them. Unread streams don't block other calls. */
const STREAM_WINDOW = 1024 * 1024;

/** The options of `connect`. */
export interface ConnectOptions {
  /** The time for all tries of a call without a `timeoutMs`. A request's `wait` is added to it. The default is 30 s. */
  deadlineMs?: number;
}

/**
 * Returns a client of the server at `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`. The client connects with the first call,
 * and reconnects when the connection breaks.
 *
 * @throws RunhubError with INVALID_ARGUMENT if the address has none of these forms.
 */
export function connect(server = DEFAULT_SERVER, { deadlineMs = DEFAULT_DEADLINE_MS }: ConnectOptions = {}): Client {
  return new Client(server, deadlineMs);
}

/** A connection to a server. Each property is a service, whose methods are the RPCs. They throw a RunhubError if they fail. */
export class Client implements AsyncDisposable {
  readonly runs: ServiceClient<typeof RunService>;
  readonly agents: ServiceClient<typeof AgentService>;
  readonly tasks: ServiceClient<typeof TaskService>;
  readonly events: ServiceClient<typeof EventService>;
  readonly approvals: ServiceClient<typeof ApprovalService>;
  readonly checkpoints: ServiceClient<typeof CheckpointService>;
  readonly artifacts: ServiceClient<typeof ArtifactService>;
  readonly server: ServiceClient<typeof ServerService>;

  readonly #session: Http2SessionManager;
  readonly #single: SingleTryTransport;
  readonly #deadlineMs: number;
  readonly #closed = new AbortController();

  /** @internal Use `connect`. */
  constructor(server: string, deadlineMs: number) {
    const address = parseAddress(server);
    // Each running call listens to this signal. Node would warn from 10 listeners on.
    setMaxListeners(0, this.#closed.signal);
    this.#session = openSession(address);
    this.#single = new SingleTryTransport(openTransport(address, this.#session), this.#closed.signal);
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
   * Subscribes to events. The subscription connects when it is iterated, and resumes after the last position that it
   * received if the connection breaks.
   */
  subscribe(
    request: MessageInitShape<typeof SubscribeEventsRequestSchema> = {},
    options: SubscriptionOptions = {},
  ): Subscription {
    return new Subscription(this.#single, this.#deadlineMs, request, options);
  }

  /** Keeps the lease of a claim with heartbeats in the background, until the keeper is disposed. */
  keepLease(claim: Claim): LeaseKeeper {
    return new LeaseKeeper(this.#single, claim);
  }

  /**
   * Closes the connection. Running calls and later calls end with CANCELED. Leases that are still kept are lost as
   * `unanswered`, because no further heartbeats are sent.
   */
  async close(): Promise<void> {
    this.#closed.abort(new Closed());
    this.#session.abort();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function openSession(address: Address): Http2SessionManager {
  const pings = { pingIntervalMs: PING_INTERVAL_MS };
  return new Http2SessionManager(address.baseUrl, pings, {
    createConnection: () => dial(address),
    settings: { enablePush: false, initialWindowSize: STREAM_WINDOW },
  });
}

function openTransport({ baseUrl }: Address, sessionManager: Http2SessionManager) {
  return createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: MAX_RESPONSE_BYTES });
}
