/** A subscription whose updates are collected in the background. */

import { EventEmitter, once } from "node:events";

import { fromJson } from "@bufbuild/protobuf";

import type { Client } from "../src/client.js";
import { EndReason, EndReasonSchema, EventSchema, SubscribeEventsRequestSchema } from "../src/v1.js";
import { inJson } from "./calls.js";
import { expectMatch, Failure, isObject, type Json, matches } from "./compare.js";

export class Watcher {
  readonly #stop = new AbortController();
  readonly #changes = new EventEmitter();
  readonly #events: Json[] = [];
  #caughtUps = 0;
  #end: string | undefined;
  #failed: unknown;

  constructor(client: Client, request: Json) {
    void this.#collect(client, request);
  }

  /** Waits for the first event that matches. */
  async event(wanted: Json): Promise<Json> {
    for (;;) {
      const found = this.#events.find((event) => matches(wanted, event));
      if (found !== undefined) {
        return found;
      }
      await this.#more(`an event ${JSON.stringify(wanted)}`);
    }
  }

  /** Waits for the end, which must be this one, after events of these kinds. */
  async end(wanted: Json, kinds: Json | undefined): Promise<Json> {
    while (this.#end === undefined) {
      await this.#more(`the end ${wanted}`);
    }
    expectMatch(wanted, this.#end);
    expectMatch(kinds, this.#all("kind"));
    if (new Set(this.#all("position")).size < this.#events.length) {
      throw new Failure(`an event came twice: ${JSON.stringify(this.#events)}`);
    }
    expectMatch({ caught_up: 1 }, { caught_up: this.#caughtUps });
    return this.#end;
  }

  stop(): void {
    this.#stop.abort();
  }

  #all(name: string): Json[] {
    return this.#events.map((event) => (isObject(event) ? (event[name] ?? null) : null));
  }

  async #more(wanted: string): Promise<void> {
    if (this.#failed !== undefined) {
      throw new Failure(`${wanted} did not come: ${this.#failed}`);
    }
    if (this.#end !== undefined) {
      throw new Failure(`${wanted} did not come before the end ${this.#end}: ${JSON.stringify(this.#events)}`);
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
          this.#events.push(inJson(EventSchema, message.value));
        } else if (message.case === "caughtUp") {
          this.#caughtUps += 1;
        } else if (message.case === "end") {
          this.#end = EndReasonSchema.value[message.value.reason]?.name ?? EndReason[message.value.reason];
        }
        this.#changes.emit("change");
      }
    } catch (error) {
      this.#failed = error;
      this.#changes.emit("change");
    }
  }
}
