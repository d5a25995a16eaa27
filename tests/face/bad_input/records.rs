//! Values that are blank, unknown, of another kind or out of range: subscriptions, records and pages.

use runhub_client::Reason;
use runhub_client::v1::*;

use super::{Case, Expected, NOTHING, World, case, field, refused, run_ids};
use crate::support::calls::*;

pub fn all(world: &World) -> Vec<Case> {
    let parts = [subscriptions, records, pages];
    parts.into_iter().flat_map(|part| part(world)).collect()
}

/// A subscription is a stream, whose first update is the refusal.
fn subscriptions(world: &World) -> Vec<Case> {
    let subscribe = || SubscribeEventsRequest { run_id: world.run.clone(), ..unset() };
    let interval = |seconds: i64, nanos: i32| Some(prost_types::Duration { seconds, nanos });
    let bad = [
        (SubscribeEventsRequest { run_id: NOTHING.into(), ..unset() }, refused(Reason::RunNotFound)),
        (SubscribeEventsRequest { run_id: " ".into(), ..unset() }, field("run_id")),
        (SubscribeEventsRequest { start: 9, ..subscribe() }, field("start")),
        (SubscribeEventsRequest { after_position: Some(-1), ..subscribe() }, field("after_position")),
        (SubscribeEventsRequest { after_position: Some(i64::MAX), ..subscribe() }, refused(Reason::PositionInFuture)),
        (SubscribeEventsRequest { log_id: Some("another".into()), ..subscribe() }, refused(Reason::LogChanged)),
        (SubscribeEventsRequest { log_id: Some(String::new()), ..subscribe() }, field("log_id")),
        (SubscribeEventsRequest { start: SubscribeStart::FromSnapshot.into(), ..unset() }, field("run_id")),
        (SubscribeEventsRequest { task_id: Some(NOTHING.into()), ..subscribe() }, refused(Reason::TaskNotFound)),
        (SubscribeEventsRequest { task_id: Some(world.run.clone()), ..unset() }, refused(Reason::TaskNotFound)),
        (SubscribeEventsRequest { bookmark_interval: interval(0, 1), ..subscribe() }, field("bookmark_interval")),
        (SubscribeEventsRequest { bookmark_interval: interval(3601, 0), ..subscribe() }, field("bookmark_interval")),
        (SubscribeEventsRequest { bookmark_interval: interval(-1, 0), ..subscribe() }, field("bookmark_interval")),
        (
            SubscribeEventsRequest { bookmark_interval: interval(i64::MIN, 0), ..subscribe() },
            field("bookmark_interval"),
        ),
    ];
    let case = |(request, expected): (SubscribeEventsRequest, Expected)| {
        let client = world.client.clone();
        let what = format!("{request:?}");
        let call = Box::pin(async move { client.subscribe(request).next().await.and_then(Result::err) });
        Case { rpc: "subscribe_events", what, call, expected }
    };
    bad.into_iter().map(case).collect()
}

fn records(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    let approval = || RecordApprovalRequest {
        run_id: world.run.clone(),
        source: "human".into(),
        verdict: ApprovalVerdict::Approved.into(),
        ..unset()
    };
    run_ids!(cases, world, record_approval, approval());
    let request = RecordApprovalRequest { source: String::new(), ..approval() };
    case!(cases, client, record_approval, "a blank source", request, field("source"));
    let request = RecordApprovalRequest { source: "system".into(), ..approval() };
    case!(cases, client, record_approval, "the server's source", request, field("source"));
    for verdict in [0, 1, 7] {
        let request = RecordApprovalRequest { verdict, ..approval() };
        case!(cases, client, record_approval, format!("verdict {verdict}"), request, field("verdict"));
    }
    let request = RecordApprovalRequest { task_id: Some(world.foreign_task.clone()), ..approval() };
    case!(cases, client, record_approval, "a task of another run", request, refused(Reason::TaskNotFound));
    run_ids!(cases, world, get_latest_approval, GetLatestApprovalRequest { source: "human".into(), ..unset() });
    let request = GetLatestApprovalRequest { run_id: world.run.clone(), ..unset() };
    case!(cases, client, get_latest_approval, "a blank source", request, field("source"));
    let request = ListApprovalsRequest { run_id: NOTHING.into(), ..unset() };
    case!(cases, client, list_approvals, "an unknown run", request, refused(Reason::RunNotFound));
    let request = ListApprovalsRequest { verdicts: vec![2, 44], ..unset() };
    case!(cases, client, list_approvals, "an unknown verdict", request, field("verdicts[1]"));
    let checkpoint = |status: i32| CreateCheckpointRequest { run_id: world.run.clone(), status, ..unset() };
    run_ids!(cases, world, create_checkpoint, checkpoint(1));
    case!(cases, client, create_checkpoint, "no status", checkpoint(0), field("status"));
    case!(cases, client, create_checkpoint, "an unknown status", checkpoint(9), field("status"));
    let get = |id: &str| GetCheckpointRequest { checkpoint_id: id.into() };
    case!(cases, client, get_checkpoint, "a blank id", get(""), field("checkpoint_id"));
    case!(cases, client, get_checkpoint, "an id of a run", get(&world.run), refused(Reason::CheckpointNotFound));
    run_ids!(cases, world, get_latest_checkpoint, GetLatestCheckpointRequest::default());
    let artifact = |kind: &str, path: &str| CreateArtifactRequest {
        run_id: world.run.clone(),
        kind: kind.into(),
        path: path.into(),
        ..unset()
    };
    run_ids!(cases, world, create_artifact, artifact("k", "p"));
    case!(cases, client, create_artifact, "a blank kind", artifact(" ", "p"), field("kind"));
    case!(cases, client, create_artifact, "a blank path", artifact("k", ""), field("path"));
    cases
}

/// Negative page sizes, and page tokens that are made up or belong to another query.
fn pages(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let client = &world.client;
    macro_rules! pages {
        ($rpc:ident, $request:expr) => {{
            let request = $request;
            let forged = ["x", "AAAAAAAAAAEAAAAAAAAAAA", &world.checkpoint];
            for token in forged {
                let mut request = request.clone();
                request.page_token = token.to_owned();
                case!(cases, client, $rpc, format!("the token {token}"), request, field("page_token"));
            }
            let mut request = request;
            request.page_size = -1;
            case!(cases, client, $rpc, "a negative page_size", request, field("page_size"));
        }};
    }
    let run_id = world.run.clone();
    pages!(list_runs, ListRunsRequest::default());
    pages!(list_tasks, ListTasksRequest { run_id: run_id.clone(), ..unset() });
    pages!(list_approvals, ListApprovalsRequest::default());
    pages!(list_checkpoints, ListCheckpointsRequest { run_id: run_id.clone(), ..unset() });
    pages!(list_artifacts, ListArtifactsRequest { run_id, ..unset() });
    run_ids!(cases, world, list_checkpoints, ListCheckpointsRequest::default());
    run_ids!(cases, world, list_artifacts, ListArtifactsRequest::default());
    cases
}
