/**
 * This module decides which messages of the server a subscription yields, and at which position the subscription
 * resumes.
 */

import { create, type MessageInitShape, merge } from "@bufbuild/protobuf";

import { copyMessage } from "./messages.js";
import {
  EndReason,
  type RunSnapshot,
  RunSnapshotSchema,
  type SubscribeEventsRequest,
  SubscribeEventsRequestSchema,
  type SubscribeEventsResponse,
} from "./v1.js";

/** The state of a subscription across all of its streams. */
export class SubscriptionState {
  /**
   * The request for the next stream. Its `afterPosition` is the cursor, and its `logId` names the log in which the
   * cursor is valid.
   */
  readonly #request: SubscribeEventsRequest;
  /**
   * The snapshot, merged from the parts that the subscription has received. If `#snapshot` is undefined, the
   * subscription is not receiving a snapshot.
   */
  #snapshot: RunSnapshot | undefined;
  #isCaughtUp = false;
  #hasEnded = false;

  constructor(request: MessageInitShape<typeof SubscribeEventsRequestSchema>) {
    this.#request = copyMessage(SubscribeEventsRequestSchema, request);
  }

  /**
   * The last received position, or the request's cursor before the first message. If `position` is undefined, the
   * subscription has no cursor.
   */
  get position(): bigint | undefined {
    return this.#request.afterPosition;
  }

  /**
   * The id of the log in which `position` is valid. If the request has no `logId`, the value is undefined until `setLog`
   * is called.
   */
  get logId(): string | undefined {
    return this.#request.logId;
  }

  /**
   * Sets the log that the subscription follows. `logId` is the id of the server's log at the first stream. A cursor is
   * valid in only one log. In another log, for example after a restore of the database, the cursor would skip or repeat
   * events. Every request therefore contains the `logId`, and the server refuses the request if the server has another
   * log.
   */
  setLog(logId: string): void {
    this.#request.logId = logId;
  }

  /** Returns whether the subscription has received its last message. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Returns the request for the next stream. */
  nextRequest(): SubscribeEventsRequest {
    // If the last stream broke during the snapshot, the server sends the whole snapshot again. Without this reset, the
    // lists would contain entries twice.
    this.#snapshot = undefined;
    return this.#request;
  }

  /**
   * Records a message of the server. Returns the update that the subscription yields, or undefined if the subscription
   * yields nothing.
   */
  receive(response: SubscribeEventsResponse): SubscribeEventsResponse | undefined {
    const { message } = response;
    if (message.case === "snapshot") {
      return this.#receivePart(response, message.value);
    }
    if (message.case === undefined) {
      // A newer server can send a kind of message that this client does not know.
      return undefined;
    }
    this.#request.afterPosition = message.value.position;
    if (message.case === "caughtUp") {
      const isFirst = !this.#isCaughtUp;
      this.#isCaughtUp = true;
      return isFirst ? response : undefined;
    }
    if (message.case === "end") {
      // DRAINING ends only the stream. When the next server starts, the subscription resumes.
      this.#hasEnded = message.value.reason !== EndReason.DRAINING;
      return this.#hasEnded ? response : undefined;
    }
    return response;
  }

  /**
   * Adds a part to the snapshot. Only the last part has a position. Returns the whole snapshot after the last part, and
   * undefined after each earlier part.
   */
  #receivePart(response: SubscribeEventsResponse, part: RunSnapshot): SubscribeEventsResponse | undefined {
    const snapshot = this.#snapshot ?? create(RunSnapshotSchema);
    // Each part continues the lists of the previous part, and `merge` appends lists.
    merge(RunSnapshotSchema, snapshot, part);
    if (part.position === 0n) {
      this.#snapshot = snapshot;
      return undefined;
    }
    this.#request.afterPosition = part.position;
    return { ...response, message: { case: "snapshot", value: snapshot } };
  }
}
