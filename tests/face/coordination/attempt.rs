//! Attempts: their data, how they end, and what the next claim returns about them.

use std::time::Duration;

use runhub_client::v1::*;
use runhub_client::{Client, Reason};

use crate::support::TestServer;
use crate::support::calls::*;

async fn run_with(client: &Client, draft: TaskDraft) -> (Run, Task) {
    let run = new_run(client).await;
    let task = add_task(client, &run.id, draft).await;
    (run, task)
}

#[tokio::test]
async fn failed_task_is_pending_until_its_attempts_are_exhausted() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, task) = run_with(client, TaskDraft { max_attempts: 2, ..draft("t") }).await;
    let held = claim(client, &run.id).await.unwrap();
    let result = value(serde_json::json!({ "red": 3 }));
    let summary = "tests are red".to_owned();
    let request = FailTaskRequest { summary, blocker_signature: Some("red".into()), result, ..failure(&held) };
    let failed = client.fail_task(request).await.unwrap().task.unwrap();
    assert_eq!((failed.status(), failed.failure_count), (TaskStatus::Pending, 1));
    assert_eq!(failed.blocker_signature.as_deref(), Some("red"));
    let attempt = latest_attempt(client, &task.id).await;
    assert_eq!((attempt.status(), &*attempt.summary), (AttemptStatus::Failed, "tests are red"));
    assert_eq!(json(&attempt.result), serde_json::json!({ "red": 3 }));
    let held = claim(client, &run.id).await.unwrap();
    let failed = fail(client, &held).await;
    assert_eq!((failed.status(), failed.failure_count), (TaskStatus::Blocked, 2));
    assert_eq!(failed.blocker_signature.as_deref(), Some("attempts_exhausted"));
    let event = log(client, &run.id).await.pop().unwrap();
    let payload = json(&event.payload);
    assert_eq!((&*event.kind, &payload["status"]), ("task_failed", &"TASK_STATUS_BLOCKED".into()));
    assert_eq!((&payload["failureCount"], &payload["attemptNumber"]), (&2.into(), &2.into()));
}

#[tokio::test]
async fn last_failure_blocks_with_its_own_signature() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, _) = run_with(client, TaskDraft { max_attempts: 1, ..draft("t") }).await;
    let held = claim(client, &run.id).await.unwrap();
    let request = FailTaskRequest { blocker_signature: Some("no_gpu".into()), ..failure(&held) };
    let failed = client.fail_task(request).await.unwrap().task.unwrap();
    assert_eq!((failed.status(), failed.blocker_signature.as_deref()), (TaskStatus::Blocked, Some("no_gpu")));
}

#[tokio::test]
async fn failed_task_waits_for_its_retry_delay() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, _) = run_with(client, draft("t")).await;
    let held = claim(client, &run.id).await.unwrap();
    let request = FailTaskRequest { retry_delay: seconds(30), ..failure(&held) };
    let failed = client.fail_task(request).await.unwrap().task.unwrap();
    assert_eq!(failed.not_before_time.unwrap().seconds, 1_800_000_030);
    assert_eq!(claim(client, &run.id).await, None);
    server.clock.advance(Duration::from_secs(30));
    assert!(claim(client, &run.id).await.is_some());
}

#[tokio::test]
async fn released_task_is_pending_without_a_failure() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, task) = run_with(client, TaskDraft { max_attempts: 1, ..draft("t") }).await;
    let held = claim(client, &run.id).await.unwrap();
    let task_id = task.id.clone();
    let lease_token = held.lease_token.clone();
    let request = ReleaseTaskRequest { task_id, lease_token, reason: "not mine".into(), ..unset() };
    let released = client.release_task(request).await.unwrap().task.unwrap();
    assert_eq!((released.status(), released.failure_count), (TaskStatus::Pending, 0));
    let attempt = latest_attempt(client, &task.id).await;
    assert_eq!((attempt.status(), &*attempt.summary), (AttemptStatus::Released, "not mine"));
    let event = log(client, &run.id).await.pop().unwrap();
    assert_eq!((&*event.kind, &json(&event.payload)["reason"]), ("task_released", &"not mine".into()));
    assert_eq!(reason(client.complete_task(completion(&held)).await), Reason::StaleLease);
    assert_eq!(claim(client, &run.id).await.unwrap().attempt_number, 2);
}

#[tokio::test]
async fn next_claim_returns_the_previous_attempt() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, _) = run_with(client, draft("t")).await;
    let first = claim(client, &run.id).await.unwrap();
    assert_eq!(first.previous_attempt, None);
    let progress = |number: i64| value(serde_json::json!({ "step": number }));
    for progress in [progress(1), progress(2), None] {
        let beats = vec![Beat { lease_token: first.lease_token.clone(), progress }];
        client.heartbeat(HeartbeatRequest { beats, ..unset() }).await.unwrap();
    }
    client.fail_task(FailTaskRequest { summary: "half done".into(), ..failure(&first) }).await.unwrap();
    let second = claim(client, &run.id).await.unwrap();
    let previous = second.previous_attempt.unwrap();
    assert_eq!((previous.attempt_number, previous.status()), (1, AttemptStatus::Failed));
    assert_eq!((&*previous.summary, json(&previous.progress)), ("half done", serde_json::json!({ "step": 2 })));
}

/// A client that accepts at most 4 MiB must still learn that it has the task.
#[tokio::test]
async fn claim_fits_into_the_client_message_limit() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, task) =
        run_with(client, TaskDraft { acceptance_criteria: vec!["c".repeat(65_000); 45], ..draft("t") }).await;
    let first = claim(client, &run.id).await.unwrap();
    let large = || Some(prost_types::Value::from("r".repeat(1_000_000)));
    let beats = vec![Beat { lease_token: first.lease_token.clone(), progress: large() }];
    client.heartbeat(HeartbeatRequest { beats, ..unset() }).await.unwrap();
    let result = large();
    client.fail_task(FailTaskRequest { result, ..failure(&first) }).await.unwrap();
    let second = client.claim_task(claim_request(&run.id, "agent")).await.unwrap();
    assert!(prost::Message::encoded_len(&second) <= 4 * 1024 * 1024);
    let second = second.claim.unwrap();
    assert_eq!((task_id(&second), second.previous_attempt), (task.id, None));
}

#[tokio::test]
async fn requeued_task_starts_over_but_keeps_its_attempt_numbers() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, task) = run_with(client, TaskDraft { max_attempts: 1, ..draft("t") }).await;
    let held = claim(client, &run.id).await.unwrap();
    fail(client, &held).await;
    let request = RequeueTaskRequest { task_id: task.id.clone(), reason: "fixed the tool".into(), ..unset() };
    let requeued = client.requeue_task(request).await.unwrap().task.unwrap();
    assert_eq!((requeued.status(), requeued.failure_count), (TaskStatus::Pending, 0));
    assert_eq!(requeued.blocker_signature, None);
    let event = log(client, &run.id).await.pop().unwrap();
    assert_eq!((&*event.kind, &json(&event.payload)["reason"]), ("task_requeued", &"fixed the tool".into()));
    let held = claim(client, &run.id).await.unwrap();
    assert_eq!(held.attempt_number, 2);
    requeue(client, &task.id).await.unwrap();
    assert_eq!(latest_attempt(client, &task.id).await.status(), AttemptStatus::Released);
    assert_eq!(reason(client.complete_task(completion(&held)).await), Reason::StaleLease);
    let held = claim(client, &run.id).await.unwrap();
    complete(client, &held).await;
    assert_eq!(reason(requeue(client, &task.id).await), Reason::WrongStatus, "COMPLETED is final");
}
