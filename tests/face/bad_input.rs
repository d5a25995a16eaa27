//! Bad input for every RPC: the server answers the documented code and reason, names the field, and changes nothing.

#[allow(clippy::field_reassign_with_default)] // The macros set the id field of whatever request they are given.
mod cases;
#[allow(clippy::field_reassign_with_default)]
mod coordination;
mod limits;
#[allow(clippy::field_reassign_with_default)]
mod records;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use runhub_client::v1::*;
use runhub_client::{Client, Error, Reason};

use crate::support::TestServer;
use crate::support::calls::*;
use crate::support::dump::dump;

/// One call that the server must refuse.
pub struct Case {
    rpc: &'static str,
    what: String,
    call: Pin<Box<dyn Future<Output = Option<Error>>>>,
    expected: Expected,
}

/// The expected refusal.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// INVALID_ARGUMENT / INVALID_FIELD, with this field in the BadRequest.
    Field(String),
    /// An error with this reason.
    Reason(Reason),
    /// A refusal by gRPC itself: the message is too large to reach a handler.
    TooLarge,
}

/// Adds a case. The call is made when its future is awaited.
macro_rules! case {
    ($cases:expr, $client:expr, $rpc:ident, $what:expr, $request:expr, $expected:expr) => {{
        let client = $client.clone();
        let request = $request;
        let call = Box::pin(async move { client.$rpc(request).await.err() });
        let what = String::from($what);
        $cases.push($crate::bad_input::Case { rpc: stringify!($rpc), what, call, expected: $expected });
    }};
}
pub(crate) use case;

/// Adds a case for each bad `run_id` of an RPC.
macro_rules! run_ids {
    ($cases:expr, $world:expr, $rpc:ident, $request:expr) => {
        for (what, id, expected) in $crate::bad_input::bad_ids("run_id", &$world.task, Reason::RunNotFound) {
            let mut request = $request;
            request.run_id = id;
            $crate::bad_input::case!($cases, $world.client, $rpc, what, request, expected);
        }
    };
}

/// Adds a case for each bad `task_id` of an RPC.
macro_rules! task_ids {
    ($cases:expr, $world:expr, $rpc:ident, $request:expr) => {
        for (what, id, expected) in $crate::bad_input::bad_ids("task_id", &$world.run, Reason::TaskNotFound) {
            let mut request = $request;
            request.task_id = id;
            $crate::bad_input::case!($cases, $world.client, $rpc, what, request, expected);
        }
    };
}
pub(crate) use {run_ids, task_ids};

/// Returns ids that are missing, blank, too long, unused, or of another kind of thing, each with the expected refusal.
pub fn bad_ids(name: &str, of_another_kind: &str, not_found: Reason) -> [(String, String, Expected); 5] {
    let not_found = refused(not_found);
    [
        ("a missing", "", field(name)),
        ("a blank", " \n\t", field(name)),
        ("too long a", &"x".repeat(129), field(name)),
        ("the unused", NOTHING, not_found.clone()),
        ("another thing's", of_another_kind, not_found),
    ]
    .map(|(what, id, expected)| (format!("{what} {name}"), id.to_owned(), expected))
}

/// A well-formed id that nothing has.
const NOTHING: &str = "01890000-0000-7000-8000-000000000000";

pub fn field(name: &str) -> Expected {
    Expected::Field(name.to_owned())
}

pub fn refused(reason: Reason) -> Expected {
    Expected::Reason(reason)
}

/// The objects that the cases refer to.
pub struct World {
    pub client: Client,
    pub run: String,
    pub task: String,
    /// A task of another run.
    pub foreign_task: String,
    pub abandoned_task: String,
    pub checkpoint: String,
    pub ended_run: String,
    /// Has a task that an agent holds.
    pub cancelling_run: String,
    pub cancelling_task: String,
    /// Blocked, because it depends on `abandoned_task`.
    pub orphaned_task: String,
    /// Pending, with a digest.
    pub approval: String,
    /// Approved for the digest `digest`, and consumed.
    pub decided_approval: String,
}

impl World {
    async fn make(client: &Client) -> Self {
        let run = new_run(client).await.id;
        let other = new_run(client).await.id;
        let ended_run = new_run(client).await.id;
        set_status(client, &ended_run, RunStatus::Completed).await;
        let task = add_task(client, &run, draft("t")).await.id;
        let pair = add_tasks(client, &run, vec![keyed("a", &[]), keyed("b", &["a"])]).await;
        let abandoned_task = pair[0].id.clone();
        let orphaned_task = pair[1].id.clone();
        let abandon = AbandonTaskRequest { task_id: abandoned_task.clone(), ..unset() };
        client.abandon_task(abandon).await.unwrap();
        let foreign_task = add_task(client, &other, draft("f")).await.id;
        let status = RunStatus::Running.into();
        let create = CreateCheckpointRequest { run_id: run.clone(), status, ..unset() };
        let checkpoint = client.create_checkpoint(create).await.unwrap().checkpoint.unwrap().id;
        let (cancelling_run, cancelling_task) = Self::make_cancelling(client).await;
        let (approval, decided_approval) = Self::make_approvals(client, &run).await;
        Self {
            client: client.clone(),
            run,
            task,
            foreign_task,
            abandoned_task,
            checkpoint,
            ended_run,
            cancelling_run,
            cancelling_task,
            orphaned_task,
            approval,
            decided_approval,
        }
    }

    async fn make_cancelling(client: &Client) -> (String, String) {
        let run = new_run(client).await.id;
        let task = add_task(client, &run, draft("held")).await.id;
        claim(client, &run).await.unwrap();
        let cancelled = client.cancel_run(CancelRunRequest { run_id: run.clone(), ..unset() }).await.unwrap();
        assert_eq!(cancelled.run.unwrap().status(), RunStatus::Cancelling);
        (run, task)
    }

    async fn make_approvals(client: &Client, run: &str) -> (String, String) {
        let open = request_approval(client, run, "digest").await;
        let used = request_approval(client, run, "digest").await;
        decide(client, &used.id, ApprovalVerdict::Approved).await.unwrap();
        let approval_id = used.id.clone();
        let subject_digest = "digest".to_owned();
        client.consume_approval(ConsumeApprovalRequest { approval_id, subject_digest, ..unset() }).await.unwrap();
        (open.id, used.id)
    }
}

/// The RPCs whose requests have no fields.
const WITHOUT_FIELDS: [&str; 2] = ["get_server_info", "list_servers"];

#[tokio::test]
async fn bad_input_is_refused_with_its_reason_and_changes_nothing() {
    let server = TestServer::start().await;
    let world = World::make(&server.client).await;
    let before = dump(server.db());
    let cases = [cases::all(&world), records::all(&world), limits::all(&world), coordination::all(&world)]
        .into_iter()
        .flatten();
    let mut seen = BTreeSet::new();
    for Case { rpc, what, call, expected } in cases {
        let refused = call.await.unwrap_or_else(|| panic!("{rpc} accepted {what}"));
        assert_eq!(refusal(&refused, &expected), Some(expected), "{rpc} with {what}: {refused:?}");
        assert_eq!(dump(server.db()), before, "{rpc} with {what} changed something");
        seen.insert(rpc.to_owned());
    }
    let all: BTreeSet<String> = rpcs().into_iter().filter(|rpc| !WITHOUT_FIELDS.contains(&rpc.as_str())).collect();
    assert_eq!(seen, all, "every RPC has a case");
}

/// A request of 5 MiB never reaches a handler, whichever RPC it is for.
#[tokio::test]
async fn every_rpc_refuses_five_mib_as_out_of_range() {
    let server = TestServer::start().await;
    let channel = tonic::transport::Channel::from_shared(server.url.clone()).unwrap().connect().await.unwrap();
    let before = dump(server.db());
    for path in paths() {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<String, ()>::default();
        let request = tonic::Request::new("x".repeat(5 * 1024 * 1024));
        let refused = grpc.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::OutOfRange, "{path}: {refused:?}");
    }
    assert_eq!(dump(server.db()), before);
}

fn paths() -> Vec<String> {
    let pool = prost_reflect::DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).unwrap();
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name())).collect()
}

/// Converts an error to the form that the cases expect.
fn refusal(error: &Error, expected: &Expected) -> Option<Expected> {
    use tonic::Code;
    match (error, expected) {
        (Error::Lost { code: Code::OutOfRange, .. }, _) => Some(Expected::TooLarge),
        (Error::Refused { reason: Reason::InvalidField, code, fields, .. }, _) => {
            assert_eq!((*code, fields.len()), (Code::InvalidArgument, 1));
            Some(Expected::Field(fields[0].0.clone()))
        }
        (Error::Refused { reason, code, .. }, _) => {
            assert_eq!(*code, code_of(reason), "{reason}");
            Some(Expected::Reason(reason.clone()))
        }
        _ => None,
    }
}

/// Returns the status code that the API documents for a reason.
fn code_of(reason: &Reason) -> tonic::Code {
    use tonic::Code;
    match reason {
        Reason::DependencyCycle | Reason::RequestIdReused => Code::InvalidArgument,
        Reason::RunNotFound | Reason::TaskNotFound | Reason::CheckpointNotFound | Reason::ApprovalNotFound => {
            Code::NotFound
        }
        Reason::AlreadyDecided | Reason::NotApproved | Reason::AlreadyConsumed | Reason::DigestMismatch => {
            Code::FailedPrecondition
        }
        Reason::StaleLease | Reason::LeaseRequired | Reason::WrongStatus | Reason::RunEnded => Code::FailedPrecondition,
        Reason::LogChanged => Code::FailedPrecondition,
        Reason::RevisionMismatch | Reason::PlanVersionMismatch => Code::Aborted,
        Reason::PositionInFuture => Code::OutOfRange,
        other => panic!("no test expects {other}"),
    }
}

/// Returns the name of every RPC of the package in snake_case.
fn rpcs() -> Vec<String> {
    let pool = prost_reflect::DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).unwrap();
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|method| snake_case(method.name())).collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
