/** Calls by name, in JSON. */

import { type DescMessage, type DescService, fromJson, type Message, toJson } from "@bufbuild/protobuf";
import type { Client } from "../src/client.js";
import { Code, RunhubError } from "../src/index.js";
import * as v1 from "../src/v1.js";
import { expectMatch, Failure, type Json, type JsonObject } from "./compare.js";

type Stub = Record<string, (request: Message) => Promise<Message>>;

function serviceOf(client: Client, name: string): [DescService, unknown] {
  const services: Record<string, [DescService, unknown]> = {
    RunService: [v1.RunService, client.runs],
    AgentService: [v1.AgentService, client.agents],
    TaskService: [v1.TaskService, client.tasks],
    EventService: [v1.EventService, client.events],
    ApprovalService: [v1.ApprovalService, client.approvals],
    CheckpointService: [v1.CheckpointService, client.checkpoints],
    ArtifactService: [v1.ArtifactService, client.artifacts],
    ServerService: [v1.ServerService, client.server],
  };
  return services[name] ?? fail(`there is no service ${name}`);
}

/** Makes the call `TaskService/AddTasks` by the client. */
export async function call(client: Client, name: string, request: JsonObject): Promise<Json> {
  const [serviceName = "", rpc = ""] = name.split("/");
  const [service, stub] = serviceOf(client, serviceName);
  const method = service.methods.find((method) => method.name === rpc) ?? fail(`there is no RPC ${name}`);
  const make = (stub as Stub)[method.localName] ?? fail(`the client has no ${method.localName}`);
  return inJson(method.output, await make(fromJson(method.input, request)));
}

/** With the proto's field names. */
export function inJson(schema: DescMessage, message: Message): Json {
  return toJson(schema, message, { useProtoFieldName: true }) as Json;
}

/** Waits for a call's answer, which must be as expected; or for it to be refused, if it must be. */
export async function settled(answer: Promise<Json>, step: JsonObject): Promise<Json> {
  if (step.refused === undefined) {
    const came = await answer;
    expectMatch(step.expect, came);
    return came;
  }
  const came = await answer.then(
    (came) => fail(`it was not refused, but answered: ${JSON.stringify(came)}`),
    (error) => refusal(error),
  );
  expectMatch(step.refused, came);
  return came;
}

function refusal(error: unknown): Json {
  if (!(error instanceof RunhubError)) {
    throw error;
  }
  const { reason = null, metadata, fields } = error;
  // FailedPrecondition is written FAILED_PRECONDITION elsewhere.
  const code = (Code[error.code] ?? "").replace(/(?<=[a-z])[A-Z]/g, "_$&").toUpperCase();
  return { reason, code, metadata: { ...metadata }, fields: fields.map(({ field }) => field), message: error.message };
}

function fail(text: string): never {
  throw new Failure(text);
}
