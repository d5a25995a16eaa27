//! C8: pausing, resuming, cancelling.

use std::time::Duration;

use runhub_client::v1::*;
use runhub_client::{Client, Reason};

use crate::support::calls::*;
use crate::support::{TestServer, soon};

async fn pause(client: &Client, run_id: &str) -> Run {
    let request = PauseRunRequest { run_id: run_id.into(), reason: "lunch".into(), ..unset() };
    client.pause_run(request).await.unwrap().run.unwrap()
}

async fn resume(client: &Client, run_id: &str) -> Run {
    let request = ResumeRunRequest { run_id: run_id.into(), reason: "fed".into(), ..unset() };
    client.resume_run(request).await.unwrap().run.unwrap()
}

async fn cancel(client: &Client, run_id: &str, grace: Option<i64>) -> Run {
    let grace = grace.and_then(seconds);
    let request = CancelRunRequest { run_id: run_id.into(), reason: "enough".into(), grace, ..unset() };
    client.cancel_run(request).await.unwrap().run.unwrap()
}

async fn until_status(client: &Client, run_id: &str, status: RunStatus) {
    crate::support::until(|| async { get_run(client, run_id).await.status() == status }).await;
}

#[tokio::test]
async fn paused_run_allows_no_claims_and_resumes_with_its_status() {
    let server = TestServer::start().await;
    let client = &server.client;
    for before in [RunStatus::Planning, RunStatus::Running, RunStatus::Blocked] {
        let run = new_run(client).await;
        add_tasks(client, &run.id, vec![draft("t"); 2]).await;
        set_status(client, &run.id, before).await;
        let held = claim(client, &run.id).await.unwrap();
        let paused = pause(client, &run.id).await;
        assert_eq!((paused.status(), &*paused.status_reason), (RunStatus::Paused, "lunch"));
        assert_eq!(claim(client, &run.id).await, None);
        assert_eq!(beat(client, &held).await.state(), LeaseState::PauseRequested);
        complete(client, &held).await;
        let resumed = resume(client, &run.id).await;
        assert_eq!((resumed.status(), &*resumed.status_reason), (before, "fed"));
        assert!(claim(client, &run.id).await.is_some());
    }
}

#[tokio::test]
async fn leases_continue_while_a_run_is_paused() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, draft("t")).await;
    let held = claim_for(client, &run.id, "agent", 60).await.unwrap();
    pause(client, &run.id).await;
    server.clock.advance(Duration::from_secs(59));
    assert_eq!(beat(client, &held).await.lease_expire_time.unwrap().seconds, 1_800_000_119);
    server.clock.advance(Duration::from_secs(60));
    until_logged(client, &run.id, "lease_expired", 1).await;
}

#[tokio::test]
async fn repeated_run_control_succeeds_and_changes_nothing() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, draft("t")).await;
    claim(client, &run.id).await.unwrap();
    assert_eq!(resume(client, &run.id).await, get_run(client, &run.id).await, "the run was not paused");
    let paused = pause(client, &run.id).await;
    assert_eq!(pause(client, &run.id).await, paused);
    resume(client, &run.id).await;
    let cancelling = cancel(client, &run.id, Some(10)).await;
    assert_eq!(cancel(client, &run.id, Some(10)).await, cancelling);
    assert_eq!(cancel(client, &run.id, None).await, cancelling, "a longer grace changes nothing");
    let cancelled = cancel(client, &run.id, Some(0)).await;
    assert_eq!(cancelled.status(), RunStatus::Cancelled);
    assert_eq!(cancel(client, &run.id, Some(5)).await, cancelled);
    let seen = kinds(client, &run.id).await;
    let control: Vec<_> = seen.iter().filter(|kind| kind.starts_with("run_")).collect();
    let requested = "run_cancel_requested";
    assert_eq!(control, ["run_created", "run_paused", "run_resumed", requested, requested, "run_cancelled"]);
}

#[tokio::test]
async fn cancelling_abandons_pending_tasks_at_once_and_lets_holders_finish() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let tasks = add_tasks(client, &run.id, vec![draft("a"), draft("b"), keyed("c", &[]), keyed("d", &["c"])]).await;
    let first = claim(client, &run.id).await.unwrap();
    let second = claim(client, &run.id).await.unwrap();
    let approval = request_approval(client, &run.id, "d").await;
    let cancelling = cancel(client, &run.id, None).await;
    assert_eq!((cancelling.status(), &*cancelling.status_reason), (RunStatus::Cancelling, "enough"));
    for task in &tasks[2..] {
        assert_eq!(get_task(client, &task.id).await.status(), TaskStatus::Abandoned);
    }
    assert_eq!(reason(client.claim_task(claim_request(&run.id, "late")).await), Reason::RunEnded);
    let result = beat(client, &first).await;
    assert_eq!(result.state(), LeaseState::CancelRequested);
    assert_eq!(result.lease_expire_time.unwrap().seconds, 1_800_000_030, "the lease must end with the grace");
    assert_eq!(complete(client, &first).await.status(), TaskStatus::Completed);
    assert_eq!(get_run(client, &run.id).await.status(), RunStatus::Cancelling);
    assert_eq!(fail(client, &second).await.status(), TaskStatus::Abandoned);
    let ended = get_run(client, &run.id).await;
    assert_eq!((ended.status(), &*ended.status_reason), (RunStatus::Cancelled, "enough"));
    let approval = get_approval(client, &approval.id).await;
    assert_eq!((approval.verdict(), &*approval.source), (ApprovalVerdict::Cancelled, "system"));
    let seen = kinds(client, &run.id).await;
    let last = ["task_completed", "task_failed", "approval_cancelled", "run_cancelled"];
    assert_eq!(seen[seen.len() - 4..], last);
}

#[tokio::test]
async fn task_released_or_expired_while_cancelling_is_abandoned() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_tasks(client, &run.id, vec![draft("a"), draft("b"), draft("c")]).await;
    let released = claim(client, &run.id).await.unwrap();
    let expired = claim_for(client, &run.id, "agent", 5).await.unwrap();
    let silent = claim(client, &run.id).await.unwrap();
    cancel(client, &run.id, None).await;
    assert_eq!(release(client, &released).await.unwrap().status(), TaskStatus::Abandoned);
    server.clock.advance(Duration::from_secs(5));
    until_logged(client, &run.id, "lease_expired", 1).await;
    assert_eq!(get_task(client, &task_id(&expired)).await.status(), TaskStatus::Abandoned);
    assert_eq!(reason(client.complete_task(completion(&expired)).await), Reason::StaleLease);
    // The grace ends.
    server.clock.advance(Duration::from_secs(25));
    until_status(client, &run.id, RunStatus::Cancelled).await;
    let task = get_task(client, &task_id(&silent)).await;
    assert_eq!(task.status(), TaskStatus::Abandoned);
    assert_eq!(latest_attempt(client, &task.id).await.status(), AttemptStatus::Abandoned);
    assert_eq!(reason(client.complete_task(completion(&silent)).await), Reason::StaleLease);
}

#[tokio::test]
async fn run_without_held_tasks_is_cancelled_at_once() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    client.block_task(BlockTaskRequest { task_id: task.id.clone(), ..unset() }).await.unwrap();
    let cancelled = cancel(client, &run.id, None).await;
    assert_eq!((cancelled.status(), cancelled.revision), (RunStatus::Cancelled, 2));
    assert_eq!(get_run(client, &run.id).await, cancelled);
    assert_eq!(get_task(client, &task.id).await.status(), TaskStatus::Abandoned, "blocked tasks are abandoned too");
}

#[tokio::test]
async fn zero_grace_cancels_at_once_and_a_shorter_grace_ends_earlier() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, draft("t")).await;
    claim(client, &run.id).await.unwrap();
    assert_eq!(cancel(client, &run.id, Some(0)).await.status(), RunStatus::Cancelled);
    let run = new_run(client).await;
    add_task(client, &run.id, draft("t")).await;
    claim(client, &run.id).await.unwrap();
    cancel(client, &run.id, Some(600)).await;
    cancel(client, &run.id, Some(2)).await;
    server.clock.advance(Duration::from_secs(2));
    until_status(client, &run.id, RunStatus::Cancelled).await;
}

#[tokio::test]
async fn paused_run_can_be_cancelled_and_then_reopened() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    pause(client, &run.id).await;
    assert_eq!(cancel(client, &run.id, None).await.status(), RunStatus::Cancelled);
    let reopened = set_status(client, &run.id, RunStatus::Running).await;
    assert_eq!((reopened.status(), &*reopened.status_reason), (RunStatus::Running, ""));
    add_task(client, &run.id, draft("t")).await;
    assert!(claim(client, &run.id).await.is_some());
}

/// If the grace ends while the server is away, holders first get time to report, as after any absence.
#[tokio::test]
async fn cancellation_continues_after_a_restart() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_task(&server.client, &run.id, draft("t")).await;
    let held = claim(&server.client, &run.id).await.unwrap();
    cancel(&server.client, &run.id, Some(5)).await;
    let clock = server.clock.clone();
    let folder = server.stop().await;
    clock.advance(Duration::from_secs(60));
    let server = TestServer::start_in(folder, clock).await;
    assert_eq!(beat(&server.client, &held).await.state(), LeaseState::CancelRequested);
    server.clock.advance(Duration::from_secs(30));
    soon(until_status(&server.client, &run.id, RunStatus::Cancelled)).await;
}

/// A run whose tasks are all completed keeps its status.
#[tokio::test]
async fn tasks_never_change_the_status_of_their_run() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, draft("t")).await;
    set_status(client, &run.id, RunStatus::Running).await;
    complete(client, &claim(client, &run.id).await.unwrap()).await;
    assert_eq!(get_run(client, &run.id).await.status(), RunStatus::Running);
}

/// Creates a run with one claimed task and 2,500 pending tasks, of which the last 500 depend on the claimed task.
/// Returns the run and the claim.
async fn new_run_with_2500_tasks(client: &Client) -> (Run, Claim) {
    let run = new_run(client).await;
    let first = add_task(client, &run.id, draft("first")).await;
    let claimed = claim(client, &run.id).await.unwrap();
    for _ in 0..2 {
        add_tasks(client, &run.id, vec![draft("t"); 1_000]).await;
    }
    add_tasks(client, &run.id, vec![TaskDraft { depends_on: vec![first.id], ..draft("later") }; 500]).await;
    (run, claimed)
}

async fn assert_all_cancelled(client: &Client, run_id: &str) {
    until_status(client, run_id, RunStatus::Cancelled).await;
    let kinds = kinds(client, run_id).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "task_abandoned").count(), 2_501);
    assert_eq!(kinds.last().map(String::as_str), Some("run_cancelled"), "run_cancelled comes last");
}

#[tokio::test]
async fn very_large_run_is_cancelled_in_parts_after_the_answer() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, claimed) = new_run_with_2500_tasks(client).await;
    assert_eq!(cancel(client, &run.id, Some(0)).await.status(), RunStatus::Cancelling);
    assert_eq!(reason(client.claim_task(claim_request(&run.id, "other")).await), Reason::RunEnded);
    assert_all_cancelled(client, &run.id).await;
    assert_eq!(get_task(client, &task_id(&claimed)).await.status(), TaskStatus::Abandoned);
}

#[tokio::test]
async fn holder_in_a_very_large_cancelled_run_can_finish() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, claimed) = new_run_with_2500_tasks(client).await;
    cancel(client, &run.id, Some(600)).await;
    until_logged(client, &run.id, "task_abandoned", 2_500).await;
    assert_eq!(get_run(client, &run.id).await.status(), RunStatus::Cancelling);
    complete(client, &claimed).await;
    until_status(client, &run.id, RunStatus::Cancelled).await;
    assert_eq!(get_task(client, &task_id(&claimed)).await.status(), TaskStatus::Completed);
}

#[tokio::test]
async fn cancellation_of_a_very_large_run_continues_after_a_restart() {
    let server = TestServer::start().await;
    let (run, _) = new_run_with_2500_tasks(&server.client).await;
    cancel(&server.client, &run.id, Some(0)).await;
    let server = server.restart().await;
    until_logged(&server.client, &run.id, "task_abandoned", 2_500).await;
    server.clock.advance(Duration::from_secs(30));
    assert_all_cancelled(&server.client, &run.id).await;
}

#[tokio::test]
async fn very_many_approvals_are_cancelled_in_parts_after_the_answer() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(client).await;
    for number in 0..1_200 {
        let request = RequestApprovalRequest { run_id: run.id.clone(), title: number.to_string(), ..unset() };
        client.request_approval(request).await.unwrap();
    }
    assert_eq!(cancel(client, &run.id, Some(0)).await.status(), RunStatus::Cancelling);
    until_status(client, &run.id, RunStatus::Cancelled).await;
    let kinds = kinds(client, &run.id).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "approval_cancelled").count(), 1_200);
    assert_eq!(kinds.last().map(String::as_str), Some("run_cancelled"), "run_cancelled comes last");
}

#[tokio::test]
async fn very_large_run_of_blocked_tasks_is_cancelled_without_waiting_for_the_grace() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(client).await;
    let first = add_task(client, &run.id, draft("first")).await;
    for _ in 0..2 {
        add_tasks(client, &run.id, vec![TaskDraft { depends_on: vec![first.id.clone()], ..draft("later") }; 600]).await;
    }
    client.abandon_task(AbandonTaskRequest { task_id: first.id.clone(), ..unset() }).await.unwrap();
    assert_eq!(cancel(client, &run.id, Some(600)).await.status(), RunStatus::Cancelling);
    until_status(client, &run.id, RunStatus::Cancelled).await;
}
