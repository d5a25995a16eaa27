/** Calls by name, with requests and answers in JSON. */

import { type DescMessage, type DescService, fromJson, type Message, toJson } from "@bufbuild/protobuf";
import type { Client } from "../src/client.js";
import { Code, RunhubError } from "../src/index.js";
import * as v1 from "../src/v1.js";
import { expectMatch, type Json, type JsonObject, StepFailed } from "./matching.js";

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

/** Makes a call by its name, such as `TaskService/AddTasks`, and returns the answer. */
export async function call(client: Client, name: string, request: JsonObject): Promise<Json> {
  const [serviceName = "", rpc = ""] = name.split("/");
  const [service, stub] = serviceOf(client, serviceName);
  const method = service.methods.find((method) => method.name === rpc) ?? fail(`there is no RPC ${name}`);
  const make = (stub as Stub)[method.localName] ?? fail(`the client has no method ${method.localName}`);
  return toProtoJson(method.output, await make(fromJson(method.input, request)));
}

/** Returns a message in the JSON format of the scenarios, which has the proto's field names. */
export function toProtoJson(schema: DescMessage, message: Message): Json {
  return toJson(schema, message, { useProtoFieldName: true }) as Json;
}

/** Waits for the answer of a call, or for its error if the step has `refused`. Throws StepFailed if it does not match. */
export async function checkedAnswer(call: Promise<Json>, step: JsonObject): Promise<Json> {
  if (step.refused === undefined) {
    const answer = await call;
    expectMatch(step.expect, answer);
    return answer;
  }
  const error = await call.then(
    (answer) => fail(`expected an error, got the answer ${JSON.stringify(answer)}`),
    (error) => errorToJson(error),
  );
  expectMatch(step.refused, error);
  return error;
}

function errorToJson(error: unknown): Json {
  if (!(error instanceof RunhubError)) {
    throw error;
  }
  const { reason = null, metadata, fields } = error;
  // Connect names a code FailedPrecondition, and the scenarios name it FAILED_PRECONDITION.
  const code = (Code[error.code] ?? "").replace(/(?<=[a-z])[A-Z]/g, "_$&").toUpperCase();
  return { reason, code, metadata: { ...metadata }, fields: fields.map(({ field }) => field), message: error.message };
}

function fail(text: string): never {
  throw new StepFailed(text);
}
