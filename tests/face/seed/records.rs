//! Events, artifacts, approvals and checkpoints.

use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

#[tokio::test]
async fn add_event() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let payload = serde_json::json!({ "a": [1, 2.5, null, true, "x"], "b": {} });
    let draft = EventDraft { message: "hello".into(), payload: value(payload.clone()), ..event("note") };
    let appended = append(&server.client, &run.id, vec![draft]).await;
    assert_eq!((appended.first_seq, appended.last_seq), (2, 2));
    let last = log(&server.client, &run.id).await.pop().unwrap();
    assert_eq!((last.source.as_str(), last.kind.as_str(), last.message.as_str()), ("test", "note", "hello"));
    assert_eq!((json(&last.payload), last.position), (payload, appended.last_position));
}

/// Returns the newest 50 unless told otherwise, in ascending order.
#[tokio::test]
async fn list_events() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    append(&server.client, &run.id, (0..60).map(|at| event(&format!("e{at}"))).collect()).await;
    let list = |limit: i32| {
        let request = ListEventsRequest { run_id: run.id.clone(), limit, ..unset() };
        async {
            let events = server.client.list_events(request).await.unwrap().events;
            events.into_iter().map(|event| event.kind).collect::<Vec<_>>()
        }
    };
    assert_eq!(list(0).await, (10..60).map(|at| format!("e{at}")).collect::<Vec<_>>());
    assert_eq!(list(2).await, ["e58", "e59"]);
}

fn artifact(run_id: &str, role: Option<&str>, path: &str) -> CreateArtifactRequest {
    CreateArtifactRequest {
        run_id: run_id.into(),
        role: role.map(str::to_owned),
        kind: "patch".into(),
        path: path.into(),
        metadata: value(serde_json::json!({ "lines": 3 })),
        ..unset()
    }
}

#[tokio::test]
async fn add_artifact() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let made = server.client.create_artifact(artifact(&run.id, None, "a.patch")).await.unwrap().artifact.unwrap();
    assert_eq!((made.kind.as_str(), made.path.as_str(), &made.role), ("patch", "a.patch", &None));
    assert_eq!(json(&made.metadata), serde_json::json!({ "lines": 3 }));
}

/// Lists the oldest first, for all roles or for one.
#[tokio::test]
async fn list_artifacts() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    for (role, path) in [(Some("checker"), "1"), (None, "2"), (Some("strategy"), "3"), (Some("checker"), "4")] {
        server.client.create_artifact(artifact(&run.id, role, path)).await.unwrap();
    }
    let list = |role: Option<&str>| {
        let role = role.map(str::to_owned);
        let request = ListArtifactsRequest { run_id: run.id.clone(), role, ..unset() };
        async {
            let artifacts = server.client.list_artifacts(request).await.unwrap().artifacts;
            artifacts.into_iter().map(|artifact| artifact.path).collect::<Vec<_>>()
        }
    };
    assert_eq!(list(None).await, ["1", "2", "3", "4"]);
    assert_eq!(list(Some("checker")).await, ["1", "4"]);
    assert_eq!(list(Some("implementation")).await, Vec::<String>::new());
}

async fn approve(server: &TestServer, run_id: &str, source: &str, verdict: ApprovalVerdict) -> Approval {
    let request = RecordApprovalRequest {
        run_id: run_id.into(),
        source: source.into(),
        verdict: verdict.into(),
        rationale: "because".into(),
        payload: value(serde_json::json!(["x"])),
        ..unset()
    };
    server.client.record_approval(request).await.unwrap().approval.unwrap()
}

#[tokio::test]
async fn add_approval() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let approval = approve(&server, &run.id, "human", ApprovalVerdict::Approved).await;
    assert_eq!((approval.source.as_str(), approval.verdict()), ("human", ApprovalVerdict::Approved));
    assert_eq!((approval.rationale.as_str(), json(&approval.payload)), ("because", serde_json::json!(["x"])));
    assert_eq!(approval.decide_time, approval.create_time);
}

/// Lists the oldest first.
#[tokio::test]
async fn list_approvals() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let mut made = Vec::new();
    for verdict in [ApprovalVerdict::Rejected, ApprovalVerdict::ChangesRequested, ApprovalVerdict::Approved] {
        made.push(approve(&server, &run.id, "human", verdict).await);
    }
    let request = ListApprovalsRequest { run_id: run.id, ..unset() };
    assert_eq!(server.client.list_approvals(request).await.unwrap().approvals, made);
}

/// Returns the latest approval of a source, or null. The class ordered by created_at, where two approvals of one
/// millisecond tie. Here the later one wins, although the clock of this test stands still.
#[tokio::test]
async fn latest_approval() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let latest = |source: &str| {
        let request = GetLatestApprovalRequest { run_id: run.id.clone(), source: source.into() };
        async { server.client.get_latest_approval(request).await.unwrap().approval }
    };
    assert_eq!(latest("human").await, None);
    approve(&server, &run.id, "human", ApprovalVerdict::Rejected).await;
    let second = approve(&server, &run.id, "human", ApprovalVerdict::Approved).await;
    approve(&server, &run.id, "checker", ApprovalVerdict::Rejected).await;
    assert_eq!(latest("human").await, Some(second));
}

#[tokio::test]
async fn add_checkpoint() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let newest = append(&server.client, &run.id, vec![event("before")]).await.last_position;
    let create = |step: i32| CreateCheckpointRequest {
        run_id: run.id.clone(),
        status: RunStatus::Running.into(),
        payload: value(serde_json::json!({ "step": step })),
        ..unset()
    };
    let latest = GetLatestCheckpointRequest { run_id: run.id.clone() };
    assert_eq!(server.client.get_latest_checkpoint(latest.clone()).await.unwrap().checkpoint, None);
    let first = server.client.create_checkpoint(create(1)).await.unwrap().checkpoint.unwrap();
    assert_eq!((first.status(), first.position), (RunStatus::Running, newest));
    assert_eq!(json(&first.payload), serde_json::json!({ "step": 1 }));
    let second = server.client.create_checkpoint(create(2)).await.unwrap().checkpoint.unwrap();
    assert_eq!(server.client.get_latest_checkpoint(latest).await.unwrap().checkpoint.as_ref(), Some(&second));
    let by_id = GetCheckpointRequest { checkpoint_id: first.id.clone() };
    assert_eq!(server.client.get_checkpoint(by_id).await.unwrap().checkpoint.as_ref(), Some(&first));
    let list = ListCheckpointsRequest { run_id: run.id.clone(), ..unset() };
    assert_eq!(server.client.list_checkpoints(list).await.unwrap().checkpoints, [first, second]);
}
