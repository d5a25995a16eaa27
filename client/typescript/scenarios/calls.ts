/** This module makes calls by name, with requests and responses in JSON. */

import { type DescMessage, type DescService, fromJson, type Message, toJson } from "@bufbuild/protobuf";
import type { Client } from "../src/client.js";
import { Code, RunhubError } from "../src/index.js";
import * as v1 from "../src/v1.js";
import { expectMatch, type Json, type JsonObject, StepFailed } from "./matching.js";

type Stub = Record<string, (request: Message) => Promise<Message>>;

function findService(client: Client, name: string): [DescService, unknown] {
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
  return services[name] ?? fail(`the API has no service ${name}: correct the step's "call"`);
}

/**
 * Makes the call with the name `name`, such as `TaskService/AddTasks`, and returns the response. Throws StepFailed if
 * the API has no RPC with the name.
 */
export async function makeCall(client: Client, name: string, request: JsonObject): Promise<Json> {
  const [serviceName = "", rpc = ""] = name.split("/");
  const [service, stub] = findService(client, serviceName);
  const method =
    service.methods.find((method) => method.name === rpc) ??
    fail(`the API has no RPC ${name}: correct the step's "call"`);
  const make = (stub as Stub)[method.localName] ?? fail(`the client has no method ${method.localName}: report the bug`);
  return toProtoJson(method.output, await make(fromJson(method.input, request)));
}

/** Converts a message to the JSON format of the scenarios, which uses the field names of the protos. */
export function toProtoJson(schema: DescMessage, message: Message): Json {
  return toJson(schema, message, { useProtoFieldName: true }) as Json;
}

/**
 * Waits for a call and returns the response. If the step has the member `refused`, the function returns the error of
 * the call instead. Throws StepFailed if the response or the error does not match the step.
 */
export async function checkResponse(call: Promise<Json>, step: JsonObject): Promise<Json> {
  if (step.refused === undefined) {
    const answer = await call;
    expectMatch(step.expect, answer);
    return answer;
  }
  const error = await call.then(
    (answer) => {
      const response = JSON.stringify(answer);
      return fail(`the call must fail, but returned ${response}: check the scenario's steps before the call`);
    },
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
  // Convert Connect's name of a code, such as FailedPrecondition, to gRPC's name, such as FAILED_PRECONDITION, because
  // the scenarios use gRPC's names.
  const code = (Code[error.code] ?? "").replace(/(?<=[a-z])[A-Z]/g, "_$&").toUpperCase();
  return { reason, code, metadata: { ...metadata }, fields: fields.map(({ field }) => field), message: error.message };
}

function fail(text: string): never {
  throw new StepFailed(text);
}
