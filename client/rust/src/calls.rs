//! Every RPC as a method.

use runhub_api::{MAX_RESPONSE_BYTES, v1};

use crate::{Client, Error};

macro_rules! calls {
    ($($module:ident::$stub:ident { $($call:ident($request:ident) -> $response:ident,)+ })+) => {
        impl Client {
            $($(
                #[doc = concat!("Calls `", stringify!($call), "`: what it does and refuses stands at [`v1::", stringify!($module), "::", stringify!($stub), "::", stringify!($call), "`].")]
                ///
                /// # Errors
                /// What the server refuses, by its reason; what is lost on the way, without one.
                pub async fn $call(&self, request: v1::$request) -> Result<v1::$response, Error> {
                    let mut stub = v1::$module::$stub::new(self.channel.clone())
                        .max_decoding_message_size(MAX_RESPONSE_BYTES);
                    Ok(stub.$call(request).await?.into_inner())
                }
            )+)+
        }
    };
}

calls! {
    run_service_client::RunServiceClient {
        create_run(CreateRunRequest) -> CreateRunResponse,
        get_run(GetRunRequest) -> GetRunResponse,
        list_runs(ListRunsRequest) -> ListRunsResponse,
        update_run(UpdateRunRequest) -> UpdateRunResponse,
        increment_cycle(IncrementCycleRequest) -> IncrementCycleResponse,
        increment_replan(IncrementReplanRequest) -> IncrementReplanResponse,
        pause_run(PauseRunRequest) -> PauseRunResponse,
        resume_run(ResumeRunRequest) -> ResumeRunResponse,
        cancel_run(CancelRunRequest) -> CancelRunResponse,
        delete_run(DeleteRunRequest) -> DeleteRunResponse,
        get_run_snapshot(GetRunSnapshotRequest) -> GetRunSnapshotResponse,
    }
    agent_service_client::AgentServiceClient {
        save_agent_state(SaveAgentStateRequest) -> SaveAgentStateResponse,
        get_agent_state(GetAgentStateRequest) -> GetAgentStateResponse,
        list_agent_states(ListAgentStatesRequest) -> ListAgentStatesResponse,
    }
    task_service_client::TaskServiceClient {
        add_tasks(AddTasksRequest) -> AddTasksResponse,
        replace_pending_tasks(ReplacePendingTasksRequest) -> ReplacePendingTasksResponse,
        get_task(GetTaskRequest) -> GetTaskResponse,
        list_tasks(ListTasksRequest) -> ListTasksResponse,
        claim_task(ClaimTaskRequest) -> ClaimTaskResponse,
        heartbeat(HeartbeatRequest) -> HeartbeatResponse,
        complete_task(CompleteTaskRequest) -> CompleteTaskResponse,
        fail_task(FailTaskRequest) -> FailTaskResponse,
        release_task(ReleaseTaskRequest) -> ReleaseTaskResponse,
        block_task(BlockTaskRequest) -> BlockTaskResponse,
        abandon_task(AbandonTaskRequest) -> AbandonTaskResponse,
        requeue_task(RequeueTaskRequest) -> RequeueTaskResponse,
        requeue_in_progress_tasks(RequeueInProgressTasksRequest) -> RequeueInProgressTasksResponse,
        record_task_attempt(RecordTaskAttemptRequest) -> RecordTaskAttemptResponse,
        get_latest_task_attempt(GetLatestTaskAttemptRequest) -> GetLatestTaskAttemptResponse,
        list_task_attempts(ListTaskAttemptsRequest) -> ListTaskAttemptsResponse,
        explain_task(ExplainTaskRequest) -> ExplainTaskResponse,
    }
    event_service_client::EventServiceClient {
        append_events(AppendEventsRequest) -> AppendEventsResponse,
        list_events(ListEventsRequest) -> ListEventsResponse,
    }
    approval_service_client::ApprovalServiceClient {
        record_approval(RecordApprovalRequest) -> RecordApprovalResponse,
        request_approval(RequestApprovalRequest) -> RequestApprovalResponse,
        decide_approval(DecideApprovalRequest) -> DecideApprovalResponse,
        wait_approval(WaitApprovalRequest) -> WaitApprovalResponse,
        cancel_approval(CancelApprovalRequest) -> CancelApprovalResponse,
        consume_approval(ConsumeApprovalRequest) -> ConsumeApprovalResponse,
        get_approval(GetApprovalRequest) -> GetApprovalResponse,
        get_latest_approval(GetLatestApprovalRequest) -> GetLatestApprovalResponse,
        list_approvals(ListApprovalsRequest) -> ListApprovalsResponse,
    }
    checkpoint_service_client::CheckpointServiceClient {
        create_checkpoint(CreateCheckpointRequest) -> CreateCheckpointResponse,
        get_checkpoint(GetCheckpointRequest) -> GetCheckpointResponse,
        get_latest_checkpoint(GetLatestCheckpointRequest) -> GetLatestCheckpointResponse,
        list_checkpoints(ListCheckpointsRequest) -> ListCheckpointsResponse,
    }
    artifact_service_client::ArtifactServiceClient {
        create_artifact(CreateArtifactRequest) -> CreateArtifactResponse,
        list_artifacts(ListArtifactsRequest) -> ListArtifactsResponse,
    }
    server_service_client::ServerServiceClient {
        get_server_info(GetServerInfoRequest) -> GetServerInfoResponse,
    }
}
