/** Which of the server's messages a subscription yields, and where it resumes. */

import { create, type MessageInitShape, merge } from "@bufbuild/protobuf";

import { OtherLog } from "./errors.js";
import { ownCopy } from "./messages.js";
import {
  EndReason,
  type RunSnapshot,
  RunSnapshotSchema,
  type SubscribeEventsRequest,
  SubscribeEventsRequestSchema,
  type SubscribeEventsResponse,
} from "./v1.js";

/** The state of a subscription, across all its streams. */
export class SubscriptionState {
  /** The request for the next stream. Its `afterPosition` is the cursor. */
  readonly #request: SubscribeEventsRequest;
  #logId: string | undefined;
  /** The parts of the snapshot received so far. Undefined if no snapshot is being received. */
  #snapshot: RunSnapshot | undefined;
  #isCaughtUp = false;
  #hasEnded = false;

  /** `logId` is the log that an earlier subscription followed. Undefined accepts any log. */
  constructor(request: MessageInitShape<typeof SubscribeEventsRequestSchema>, logId: string | undefined) {
    this.#request = ownCopy(SubscribeEventsRequestSchema, request);
    this.#logId = logId;
  }

  /** The last position received, or the request's cursor. Undefined if there is neither. */
  get position(): bigint | undefined {
    return this.#request.afterPosition;
  }

  /** The server's log in which `position` is valid. Undefined before the first stream. */
  get logId(): string | undefined {
    return this.#logId;
  }

  /** Whether the subscription has received its last message. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /**
   * Returns the request for the next stream. `logId` is the log that the server has now.
   *
   * @throws OtherLog if the subscription follows another log. A cursor is valid in one log only: in another one, for example
   *   after a restore, it would skip or repeat events.
   */
  begin(logId: string): SubscribeEventsRequest {
    this.#logId ??= logId;
    if (this.#logId !== logId) {
      throw new OtherLog();
    }
    // If the last stream broke within the snapshot, the server sends the snapshot again from its first part.
    this.#snapshot = undefined;
    return this.#request;
  }

  /** Records a message of the server and returns what the subscription yields. Undefined if it yields nothing. */
  receive(response: SubscribeEventsResponse): SubscribeEventsResponse | undefined {
    const { message } = response;
    if (message.case === "snapshot") {
      return this.#receivePart(response, message.value);
    }
    if (message.case === undefined) {
      // A newer server has sent a kind of message that this client does not know.
      return undefined;
    }
    this.#request.afterPosition = message.value.position;
    if (message.case === "caughtUp") {
      const isFirst = !this.#isCaughtUp;
      this.#isCaughtUp = true;
      return isFirst ? response : undefined;
    }
    if (message.case === "end") {
      // After DRAINING, the subscription resumes at the next server.
      this.#hasEnded = message.value.reason !== EndReason.DRAINING;
      return this.#hasEnded ? response : undefined;
    }
    return response;
  }

  /** Adds a part to the snapshot. Returns the whole snapshot after the last part, which alone has a position. */
  #receivePart(response: SubscribeEventsResponse, part: RunSnapshot): SubscribeEventsResponse | undefined {
    const snapshot = this.#snapshot ?? create(RunSnapshotSchema);
    // Each part continues the lists of the part before, and merge appends lists.
    merge(RunSnapshotSchema, snapshot, part);
    if (part.position === 0n) {
      this.#snapshot = snapshot;
      return undefined;
    }
    this.#request.afterPosition = part.position;
    return { ...response, message: { case: "snapshot", value: snapshot } };
  }
}
