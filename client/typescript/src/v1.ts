/**
 * This module exports the generated messages, enums and services of the API `runhub.v1`. The comments of the generated
 * code document the API.
 */
export * from "./gen/runhub/v1/agent_pb.js";
export * from "./gen/runhub/v1/agent_service_pb.js";
export * from "./gen/runhub/v1/approval_pb.js";
export * from "./gen/runhub/v1/approval_service_pb.js";
export * from "./gen/runhub/v1/artifact_pb.js";
export * from "./gen/runhub/v1/artifact_service_pb.js";
export * from "./gen/runhub/v1/checkpoint_pb.js";
export * from "./gen/runhub/v1/checkpoint_service_pb.js";
export * from "./gen/runhub/v1/error_pb.js";
export * from "./gen/runhub/v1/event_pb.js";
export * from "./gen/runhub/v1/event_service_pb.js";
export * from "./gen/runhub/v1/options_pb.js";
export * from "./gen/runhub/v1/run_pb.js";
export * from "./gen/runhub/v1/run_service_pb.js";
export * from "./gen/runhub/v1/server_pb.js";
export * from "./gen/runhub/v1/server_service_pb.js";
export * from "./gen/runhub/v1/snapshot_pb.js";
export * from "./gen/runhub/v1/task_pb.js";
export * from "./gen/runhub/v1/task_service_pb.js";
