/** This module collects the messages that a scenario's subscription receives. */

import { EventEmitter, once } from "node:events";

import { fromJson } from "@bufbuild/protobuf";

import type { Client } from "../src/client.js";
import { EndReason, EndReasonSchema, EventSchema, SubscribeEventsRequestSchema } from "../src/v1.js";
import { toProtoJson } from "./calls.js";
import { expectMatch, isObject, type Json, matches, StepFailed } from "./matching.js";

/** Reads a subscription in the background, stores the messages, and lets steps wait for a message. */
export class Collector {
  readonly #stop = new AbortController();
  /** The emitter of the event `change`, which occurs when a message or an error arrives. */
  readonly #changes = new EventEmitter();
  readonly #events: Json[] = [];
  #caughtUpCount = 0;
  /** The reason for the end of the subscription. If the subscription has not ended, the value is undefined. */
  #end: string | undefined;
  #error: unknown;

  constructor(client: Client, request: Json) {
    void this.#collect(client, request);
  }

  /**
   * Waits for the first event that matches `expected` and returns the event. Throws StepFailed if the subscription ends
   * or fails without a matching event.
   */
  async event(expected: Json): Promise<Json> {
    for (;;) {
      const found = this.#events.find((event) => matches(expected, event));
      if (found !== undefined) {
        return found;
      }
      await this.#nextChange(`the event ${JSON.stringify(expected)}`);
    }
  }

  /**
   * Waits for the end of the subscription and returns the reason. Throws StepFailed if the subscription fails or the
   * reason is not `expected`. Also throws StepFailed if the kinds of the events do not match `kinds`, an event is a
   * duplicate, or the number of `caught_up` messages is not 1.
   */
  async end(expected: Json, kinds: Json | undefined): Promise<Json> {
    while (this.#end === undefined) {
      await this.#nextChange(`the end ${expected}`);
    }
    expectMatch(expected, this.#end);
    expectMatch(kinds, this.#members("kind"));
    if (new Set(this.#members("position")).size < this.#events.length) {
      const events = JSON.stringify(this.#events);
      throw new StepFailed(`the subscription yielded a duplicate event: report the bug; the events: ${events}`);
    }
    expectMatch({ caught_up: 1 }, { caught_up: this.#caughtUpCount });
    return this.#end;
  }

  stop(): void {
    this.#stop.abort();
  }

  /** Returns the member `name` of each event, or null for an event without this member. */
  #members(name: string): Json[] {
    return this.#events.map((event) => (isObject(event) ? (event[name] ?? null) : null));
  }

  async #nextChange(expected: string): Promise<void> {
    if (this.#error !== undefined) {
      throw new StepFailed(`${expected} has not arrived, because the subscription failed: ${this.#error}`);
    }
    if (this.#end !== undefined) {
      const events = JSON.stringify(this.#events);
      throw new StepFailed(
        `${expected} must arrive before the end ${this.#end}: check the scenario's steps; the events: ${events}`,
      );
    }
    await once(this.#changes, "change");
  }

  async #collect(client: Client, request: Json): Promise<void> {
    try {
      const subscription = client.subscribe(fromJson(SubscribeEventsRequestSchema, request), {
        signal: this.#stop.signal,
      });
      for await (const { message } of subscription) {
        if (message.case === "event") {
          this.#events.push(toProtoJson(EventSchema, message.value));
        } else if (message.case === "caughtUp") {
          this.#caughtUpCount += 1;
        } else if (message.case === "end") {
          this.#end = EndReasonSchema.value[message.value.reason]?.name ?? EndReason[message.value.reason];
        }
        this.#changes.emit("change");
      }
    } catch (error) {
      this.#error = error;
      this.#changes.emit("change");
    }
  }
}
