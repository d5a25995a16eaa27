//! Every RPC as a method.

use std::future::Future;
use std::time::{Duration, Instant};

use prost::Message;
use runhub_api::{MAX_RESPONSE_BYTES, v1};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::{Client, Error, repeat_for};

/// What is the same for all requests.
trait Request: Clone {
    /// Gives it a request_id unless the caller did, so that all its tries are one call.
    fn identify(&mut self) {}

    /// How long the server may hold it.
    fn wait(&mut self) -> Option<&mut prost_types::Duration> {
        None
    }
}

/// The longest that a server holds a call.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl Client {
    /// Sends the request; with a deadline again and again, until it is answered or refused.
    async fn make<Q, A, F>(&self, mut request: Q, send: impl Fn(Channel, Q) -> F) -> Result<A, Error>
    where
        Q: Request,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let once = async |request| Ok(send(self.channel.clone(), request).await?.into_inner());
        let Some(deadline) = self.deadline else {
            return once(request).await;
        };
        request.identify();
        let (begun, wait) = (Instant::now(), wait_of(&mut request));
        let mut is_again = false;
        let tried = || {
            if std::mem::replace(&mut is_again, true) && !wait.is_zero() {
                wait_for(wait.saturating_sub(begun.elapsed()), &mut request);
            }
            once(request.clone())
        };
        repeat_for(deadline + wait, tried).await
    }
}

fn wait_of(request: &mut impl Request) -> Duration {
    let wait = request.wait().and_then(|wait| Duration::try_from(*wait).ok());
    wait.unwrap_or_default().min(LONGEST_WAIT)
}

/// A further try waits for the rest of the time, so that it is answered within the deadline. With its request_id it is the
/// same call: the wait is no part of its content.
fn wait_for(left: Duration, request: &mut impl Request) {
    if let (Some(wait), Ok(left)) = (request.wait(), left.try_into()) {
        *wait = left;
    }
}

macro_rules! calls {
    ($($module:ident::$stub:ident { $($kind:ident $call:ident($request:ident) -> $response:ident,)+ })+) => {
        impl Client {
            $($(
                #[doc = concat!("Calls `", stringify!($call), "`: what it does and refuses stands at [`v1::", stringify!($module), "::", stringify!($stub), "::", stringify!($call), "`].")]
                ///
                /// # Errors
                /// What the server refuses, by its reason; what is lost on the way, without one.
                pub async fn $call(&self, request: v1::$request) -> Result<v1::$response, Error> {
                    self.make(request, |channel, request| async move {
                        let stub = v1::$module::$stub::new(channel);
                        stub.max_decoding_message_size(MAX_RESPONSE_BYTES).$call(request).await
                    }).await
                }
            )+)+

            /// Makes the call of this name, `ClaimTask`, say, with an encoded request, and returns the encoded response:
            /// for programs that learn at run time what they call.
            ///
            /// # Errors
            /// As that call's; UNIMPLEMENTED for a name that is no unary RPC, INVALID_ARGUMENT for what can't be decoded.
            pub async fn call_encoded(&self, rpc: &str, request: &[u8]) -> Result<Vec<u8>, Error> {
                $($(
                    if stringify!($request).strip_suffix("Request") == Some(rpc) {
                        let request = v1::$request::decode(request)
                            .map_err(|error| Error::Lost { code: Code::InvalidArgument, message: error.to_string() })?;
                        return Ok(self.$call(request).await?.encode_to_vec());
                    }
                )+)+
                Err(Error::Lost { code: Code::Unimplemented, message: format!("there is no unary RPC {rpc}") })
            }
        }

        $($( request!($kind $request); )+)+

        #[cfg(test)]
        const KINDS: &[(&str, &str)] = &[$($((stringify!($request), stringify!($kind)),)+)+];
    };
}

/// What stands before a call: whether it changes something, and whether the server may hold it.
macro_rules! request {
    (reads $request:ident) => {
        impl Request for v1::$request {}
    };
    (waits $request:ident) => {
        impl Request for v1::$request {
            fn wait(&mut self) -> Option<&mut prost_types::Duration> {
                self.wait.as_mut()
            }
        }
    };
    (changes $request:ident) => {
        impl Request for v1::$request {
            fn identify(&mut self) {
                identify(&mut self.request_id);
            }
        }
    };
    (claims $request:ident) => {
        impl Request for v1::$request {
            fn identify(&mut self) {
                identify(&mut self.request_id);
            }

            fn wait(&mut self) -> Option<&mut prost_types::Duration> {
                self.wait.as_mut()
            }
        }
    };
}

// A client has no clock to take ids from; nothing is tested by what they are.
#[allow(clippy::disallowed_methods)]
fn identify(request_id: &mut String) {
    if request_id.is_empty() {
        *request_id = Uuid::now_v7().to_string();
    }
}

calls! {
    run_service_client::RunServiceClient {
        changes create_run(CreateRunRequest) -> CreateRunResponse,
        reads get_run(GetRunRequest) -> GetRunResponse,
        reads list_runs(ListRunsRequest) -> ListRunsResponse,
        changes update_run(UpdateRunRequest) -> UpdateRunResponse,
        changes increment_cycle(IncrementCycleRequest) -> IncrementCycleResponse,
        changes increment_replan(IncrementReplanRequest) -> IncrementReplanResponse,
        changes pause_run(PauseRunRequest) -> PauseRunResponse,
        changes resume_run(ResumeRunRequest) -> ResumeRunResponse,
        changes cancel_run(CancelRunRequest) -> CancelRunResponse,
        changes delete_run(DeleteRunRequest) -> DeleteRunResponse,
        reads get_run_snapshot(GetRunSnapshotRequest) -> GetRunSnapshotResponse,
    }
    agent_service_client::AgentServiceClient {
        changes save_agent_state(SaveAgentStateRequest) -> SaveAgentStateResponse,
        reads get_agent_state(GetAgentStateRequest) -> GetAgentStateResponse,
        reads list_agent_states(ListAgentStatesRequest) -> ListAgentStatesResponse,
    }
    task_service_client::TaskServiceClient {
        changes add_tasks(AddTasksRequest) -> AddTasksResponse,
        changes replace_pending_tasks(ReplacePendingTasksRequest) -> ReplacePendingTasksResponse,
        reads get_task(GetTaskRequest) -> GetTaskResponse,
        reads list_tasks(ListTasksRequest) -> ListTasksResponse,
        claims claim_task(ClaimTaskRequest) -> ClaimTaskResponse,
        reads heartbeat(HeartbeatRequest) -> HeartbeatResponse,
        changes complete_task(CompleteTaskRequest) -> CompleteTaskResponse,
        changes fail_task(FailTaskRequest) -> FailTaskResponse,
        changes release_task(ReleaseTaskRequest) -> ReleaseTaskResponse,
        changes block_task(BlockTaskRequest) -> BlockTaskResponse,
        changes abandon_task(AbandonTaskRequest) -> AbandonTaskResponse,
        changes requeue_task(RequeueTaskRequest) -> RequeueTaskResponse,
        changes requeue_in_progress_tasks(RequeueInProgressTasksRequest) -> RequeueInProgressTasksResponse,
        changes record_task_attempt(RecordTaskAttemptRequest) -> RecordTaskAttemptResponse,
        reads get_latest_task_attempt(GetLatestTaskAttemptRequest) -> GetLatestTaskAttemptResponse,
        reads list_task_attempts(ListTaskAttemptsRequest) -> ListTaskAttemptsResponse,
        reads explain_task(ExplainTaskRequest) -> ExplainTaskResponse,
    }
    event_service_client::EventServiceClient {
        changes append_events(AppendEventsRequest) -> AppendEventsResponse,
        waits list_events(ListEventsRequest) -> ListEventsResponse,
    }
    approval_service_client::ApprovalServiceClient {
        changes record_approval(RecordApprovalRequest) -> RecordApprovalResponse,
        changes request_approval(RequestApprovalRequest) -> RequestApprovalResponse,
        changes decide_approval(DecideApprovalRequest) -> DecideApprovalResponse,
        waits wait_approval(WaitApprovalRequest) -> WaitApprovalResponse,
        changes cancel_approval(CancelApprovalRequest) -> CancelApprovalResponse,
        changes consume_approval(ConsumeApprovalRequest) -> ConsumeApprovalResponse,
        reads get_approval(GetApprovalRequest) -> GetApprovalResponse,
        reads get_latest_approval(GetLatestApprovalRequest) -> GetLatestApprovalResponse,
        reads list_approvals(ListApprovalsRequest) -> ListApprovalsResponse,
    }
    checkpoint_service_client::CheckpointServiceClient {
        changes create_checkpoint(CreateCheckpointRequest) -> CreateCheckpointResponse,
        reads get_checkpoint(GetCheckpointRequest) -> GetCheckpointResponse,
        reads get_latest_checkpoint(GetLatestCheckpointRequest) -> GetLatestCheckpointResponse,
        reads list_checkpoints(ListCheckpointsRequest) -> ListCheckpointsResponse,
    }
    artifact_service_client::ArtifactServiceClient {
        changes create_artifact(CreateArtifactRequest) -> CreateArtifactResponse,
        reads list_artifacts(ListArtifactsRequest) -> ListArtifactsResponse,
    }
    server_service_client::ServerServiceClient {
        reads get_server_info(GetServerInfoRequest) -> GetServerInfoResponse,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use v1::{ClaimTaskRequest, HeartbeatRequest, ListRunsRequest};

    use super::*;

    /// What the server was asked, by a client that has its answer at the third try.
    async fn tries<Q: Request>(client: Client, request: Q) -> Vec<Q> {
        let asked = RefCell::new(Vec::new());
        let answer = client.make(request, |_, request| {
            asked.borrow_mut().push(request);
            let answered = asked.borrow().len() == 3;
            async move { answered.then(|| Response::new(())).ok_or_else(|| Status::unavailable("away")) }
        });
        // Without a retry there is none.
        let _ = answer.await;
        asked.into_inner()
    }

    fn client() -> Client {
        Client::connect_lazy("127.0.0.1:1").unwrap()
    }

    /// The kinds are kept by hand; the protos say what they must be.
    #[test]
    fn what_can_be_repeated_is_identified_and_what_is_held_has_its_time() {
        let pool = prost_reflect::DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).unwrap();
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let unary = methods.filter(|method| method.full_name().starts_with("runhub.") && !method.is_server_streaming());
        let expected: BTreeMap<String, &str> = unary
            .map(|method| {
                let has = |name| method.input().get_field_by_name(name).is_some();
                let kind = match (has("request_id"), has("wait")) {
                    (true, true) => "claims",
                    (true, false) => "changes",
                    (false, true) => "waits",
                    (false, false) => "reads",
                };
                (method.input().name().to_owned(), kind)
            })
            .collect();
        assert_eq!(
            KINDS.iter().map(|(request, kind)| ((*request).to_owned(), *kind)).collect::<BTreeMap<_, _>>(),
            expected
        );
    }

    #[tokio::test]
    async fn all_tries_of_what_changes_something_are_one_call() {
        let asked = tries(client(), ClaimTaskRequest::default()).await;
        assert_eq!(asked.len(), 3);
        assert_eq!(Uuid::parse_str(&asked[0].request_id).unwrap().get_version_num(), 7);
        assert!(asked.iter().all(|request| *request == asked[0]));
        let again = tries(client(), ClaimTaskRequest::default()).await;
        assert_ne!(again[0].request_id, asked[0].request_id);
    }

    #[tokio::test]
    async fn what_the_caller_has_named_keeps_its_name_and_what_changes_nothing_has_none() {
        let named = ClaimTaskRequest { request_id: "mine".into(), ..ClaimTaskRequest::default() };
        assert_eq!(tries(client(), named.clone()).await, vec![named; 3]);
        assert_eq!(tries(client(), HeartbeatRequest::default()).await.len(), 3);
        assert_eq!(tries(client(), ListRunsRequest::default()).await.len(), 3);
    }

    #[tokio::test]
    async fn without_retry_a_call_is_made_once_as_it_is() {
        let asked = tries(client().without_retry(), ClaimTaskRequest::default()).await;
        assert_eq!(asked, [ClaimTaskRequest::default()]);
    }

    #[tokio::test]
    async fn a_wait_comes_on_top_of_the_deadline() {
        let short = client().with_deadline(Duration::ZERO);
        let late = |channel: Channel, _| async move {
            drop(channel);
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(Response::new(()))
        };
        let lost = short.make(ClaimTaskRequest::default(), late).await.unwrap_err();
        assert_eq!(lost.code(), Code::DeadlineExceeded);
        let wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        short.make(ClaimTaskRequest { wait, ..ClaimTaskRequest::default() }, late).await.unwrap();
    }

    #[tokio::test]
    async fn a_further_try_waits_for_the_rest_of_the_time() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let asked = tries(client(), ClaimTaskRequest { wait: seconds(60), ..ClaimTaskRequest::default() }).await;
        let waits = asked.iter().map(|request| Duration::try_from(request.wait.unwrap()).unwrap());
        let waits: Vec<Duration> = waits.collect();
        assert_eq!(waits[0], Duration::from_secs(60));
        assert!(waits[2] < waits[1] && waits[1] < waits[0] && waits[2] > Duration::from_secs(50), "{waits:?}");
        assert_eq!(asked[2].request_id, asked[0].request_id);
        // What can't be taken stays so, for the server to refuse.
        let refused = ClaimTaskRequest { wait: seconds(-1), ..ClaimTaskRequest::default() };
        assert!(tries(client(), refused).await.iter().all(|request| request.wait == seconds(-1)));
    }

    #[tokio::test]
    async fn a_refusal_is_not_asked_again_and_a_name_that_is_no_call_is_told() {
        let (client, asked) = (client(), RefCell::new(0));
        let refused = client.make(ListRunsRequest::default(), |_, _| {
            *asked.borrow_mut() += 1;
            async { Err::<Response<()>, _>(Status::resource_exhausted("larger than 16 MiB")) }
        });
        assert_eq!(refused.await.unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(asked.into_inner(), 1);
        assert_eq!(client.call_encoded("Nothing", &[]).await.unwrap_err().code(), Code::Unimplemented);
        assert_eq!(client.call_encoded("GetRun", &[7]).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
