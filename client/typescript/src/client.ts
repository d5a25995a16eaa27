/** The connection to a server, and what can be done with it. */

import { setMaxListeners } from "node:events";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient, type Client as ServiceClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { type Address, dial, parseAddress } from "./address.js";
import { Closed } from "./errors.js";
import { LeaseKeeper } from "./lease.js";
import { Subscription, type SubscriptionOptions } from "./subscription.js";
import { OnceTransport, RepeatingTransport } from "./transports.js";
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

/** A snapshot may be so large. */
const MAX_RESPONSE_BYTES = 16 * 1024 * 1024;

/**
 * How soon a server that is gone without a word is looked for, while a call or a stream is open. A connection without one
 * is looked at when it is needed again (connect-node's `pingIdleConnection` would ping it after it is closed, and crash).
 */
const PING_INTERVAL_MS = 20_000;

/** How much of a stream is taken ahead of its reader. One that nobody reads does not hold up the others. */
const STREAM_WINDOW = 1024 * 1024;

/** What `connect` can be told. */
export interface ConnectOptions {
  /** How long a call may take, all tries together, when it says nothing itself; a request's `wait` comes on top. */
  deadlineMs?: number;
}

/**
 * A client of the server at `HOST:PORT`, `http://HOST:PORT` or `unix:PATH`. It connects with the first call, and again by
 * itself whenever the connection has broken.
 *
 * @throws RunhubError INVALID_ARGUMENT: the address is none of these.
 */
export function connect(server = DEFAULT_SERVER, { deadlineMs = DEFAULT_DEADLINE_MS }: ConnectOptions = {}): Client {
  return new Client(server, deadlineMs);
}

/** The services of a server, each RPC as a method; and what takes more than a call. What they throw is a RunhubError. */
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
  readonly #once: OnceTransport;
  readonly #deadlineMs: number;
  readonly #closed = new AbortController();

  /** @internal Use `connect`. */
  constructor(server: string, deadlineMs: number) {
    const address = parseAddress(server);
    // Each call that goes on listens.
    setMaxListeners(0, this.#closed.signal);
    this.#session = openSession(address);
    this.#once = new OnceTransport(openTransport(address, this.#session), this.#closed.signal);
    this.#deadlineMs = deadlineMs;
    const transport = new RepeatingTransport(this.#once, deadlineMs);
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
   * Subscribes to events, and goes on by itself after the last one it received, however often the connection breaks. It
   * connects when it is iterated.
   */
  subscribe(
    request: MessageInitShape<typeof SubscribeEventsRequestSchema> = {},
    options: SubscriptionOptions = {},
  ): Subscription {
    return new Subscription(this.#once, this.#deadlineMs, request, options);
  }

  /** Keeps the lease of a claim by heartbeats in the background, from now until it is disposed. */
  keepLease(claim: Claim): LeaseKeeper {
    return new LeaseKeeper(this.#once, claim);
  }

  /**
   * Calls off what goes on and closes the connection. Later calls are refused as CANCELED; the leases that are still kept
   * are lost as `unanswered`, for nobody beats any more.
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
