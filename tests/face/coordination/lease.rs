//! C3 and C4: leases expire, are resumed, and are rejected once they are stale.

use std::time::Duration;

use runhub_client::Reason;
use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

/// Duration of the leases here. It is shorter than the interval at which the sweeper runs by itself.
const LEASE: Duration = Duration::from_secs(40);

/// Creates a run with one task and claims it.
async fn held(server: &TestServer) -> (Run, Claim) {
    held_with(server, draft("t")).await
}

async fn held_with(server: &TestServer, draft: TaskDraft) -> (Run, Claim) {
    let run = new_run(&server.client).await;
    add_task(&server.client, &run.id, draft).await;
    let claim = claim_for(&server.client, &run.id, "agent", 40).await.unwrap();
    (run, claim)
}

/// Lets the lease expire and returns the `count`-th `lease_expired` event of the run.
async fn expire(server: &TestServer, run: &Run, count: usize) -> Event {
    server.clock.advance(LEASE);
    until_logged(&server.client, &run.id, "lease_expired", count).await
}

#[tokio::test]
async fn claim_returns_the_lease_duration_and_expiry() {
    let server = TestServer::start().await;
    let (run, claim) = held(&server).await;
    assert_eq!(claim.lease_duration, seconds(40));
    let end = Some(prost_types::Timestamp { seconds: 1_800_000_040, nanos: 0 });
    assert_eq!(claim.lease_expire_time, end);
    assert_eq!(get_task(&server.client, &task_id(&claim)).await.lease_expire_time, end);
    add_task(&server.client, &run.id, draft("u")).await;
    let default = crate::support::calls::claim(&server.client, &run.id).await.unwrap();
    assert_eq!(default.lease_duration, seconds(600), "the server's default");
}

#[tokio::test]
async fn expired_lease_returns_task_to_queue() {
    let server = TestServer::start().await;
    let (run, claim) = held(&server).await;
    server.clock.advance(LEASE - Duration::from_micros(1));
    assert_eq!(beat(&server.client, &claim).await.state(), LeaseState::Extended);
    let event = expire(&server, &run, 1).await;
    let payload = json(&event.payload);
    assert_eq!((&payload["agentId"], &payload["attemptNumber"]), (&"agent".into(), &1.into()));
    assert_eq!(payload["status"], "TASK_STATUS_PENDING");
    let task = get_task(&server.client, &task_id(&claim)).await;
    assert_eq!((task.status(), task.failure_count), (TaskStatus::Pending, 1));
    assert_eq!((task.agent_id, task.lease_expire_time), (None, None));
    let attempt = latest_attempt(&server.client, &task.id).await;
    assert_eq!(attempt.status(), AttemptStatus::LeaseExpired);
    assert!(attempt.end_time.is_some());
}

#[tokio::test]
async fn heartbeats_extend_a_lease_and_change_nothing_else() {
    let server = TestServer::start().await;
    let (run, claim) = held(&server).await;
    let before = get_task(&server.client, &task_id(&claim)).await;
    for _ in 0..10 {
        server.clock.advance(LEASE / 2);
        let result = beat(&server.client, &claim).await;
        assert_eq!(result.state(), LeaseState::Extended);
        let task = get_task(&server.client, &before.id).await;
        assert_eq!(task.lease_expire_time, result.lease_expire_time);
        assert_eq!((task.revision, task.update_time), (before.revision, before.update_time));
    }
    assert_eq!(kinds(&server.client, &run.id).await, ["run_created", "tasks_added", "task_claimed"]);
    complete(&server.client, &claim).await;
}

#[tokio::test]
async fn heartbeat_uses_its_own_duration_or_that_of_the_claim() {
    let server = TestServer::start().await;
    let (run, claim) = held(&server).await;
    let beats = vec![Beat { lease_token: claim.lease_token.clone(), ..unset() }];
    let short = HeartbeatRequest { beats, lease_duration: seconds(5) };
    let result = server.client.heartbeat(short.clone()).await.unwrap().results.remove(0);
    assert_eq!(result.lease_expire_time.unwrap().seconds, 1_800_000_005);
    assert_eq!(beat(&server.client, &claim).await.lease_expire_time.unwrap().seconds, 1_800_000_040);
    server.client.heartbeat(short).await.unwrap();
    server.clock.advance(Duration::from_secs(5));
    until_logged(&server.client, &run.id, "lease_expired", 1).await;
}

#[tokio::test]
async fn beats_are_answered_in_request_order() {
    let server = TestServer::start().await;
    let (_, claim) = held(&server).await;
    let token = |token: &str| Beat { lease_token: token.into(), ..unset() };
    let beats = vec![token("nobody's"), token(&claim.lease_token), token("nobody's")];
    let results = server.client.heartbeat(HeartbeatRequest { beats, ..unset() }).await.unwrap().results;
    let states: Vec<_> = results.iter().map(BeatResult::state).collect();
    assert_eq!(states, [LeaseState::Lost, LeaseState::Extended, LeaseState::Lost]);
    assert_eq!(results[0].lease_expire_time, None);
}

#[tokio::test]
async fn late_agent_may_complete_a_task_nobody_has_claimed() {
    let server = TestServer::start().await;
    let (run, claim) = held(&server).await;
    expire(&server, &run, 1).await;
    let task = complete(&server.client, &claim).await;
    assert_eq!((task.status(), task.failure_count), (TaskStatus::Completed, 0));
    let attempt = latest_attempt(&server.client, &task.id).await;
    assert_eq!((attempt.status(), &*attempt.summary), (AttemptStatus::Completed, "done"));
    let last = log(&server.client, &run.id).await.pop().unwrap();
    assert_eq!((&*last.kind, &json(&last.payload)["agentId"]), ("task_completed", &"agent".into()));
}

#[tokio::test]
async fn late_agent_may_fail_or_block_and_its_attempt_counts_once() {
    let server = TestServer::start().await;
    let (run, claim) = held(&server).await;
    expire(&server, &run, 1).await;
    let task = fail(&server.client, &claim).await;
    assert_eq!((task.status(), task.failure_count), (TaskStatus::Pending, 1));
    assert_eq!(latest_attempt(&server.client, &task.id).await.status(), AttemptStatus::Failed);
    let claim = claim_for(&server.client, &run.id, "agent", 40).await.unwrap();
    expire(&server, &run, 2).await;
    let block = BlockTaskRequest { task_id: task.id, lease_token: Some(claim.lease_token), ..unset() };
    let task = server.client.block_task(block).await.unwrap().task.unwrap();
    assert_eq!((task.status(), task.failure_count), (TaskStatus::Blocked, 1));
}

#[tokio::test]
async fn late_agent_cannot_release_its_task() {
    let server = TestServer::start().await;
    let (run, claim) = held(&server).await;
    expire(&server, &run, 1).await;
    assert_eq!(reason(release(&server.client, &claim).await), Reason::WrongStatus);
}

#[tokio::test]
async fn late_heartbeat_resumes_the_lease() {
    let server = TestServer::start().await;
    let (run, claim) = held(&server).await;
    expire(&server, &run, 1).await;
    let result = beat(&server.client, &claim).await;
    assert_eq!(result.state(), LeaseState::Extended);
    let task = get_task(&server.client, &task_id(&claim)).await;
    assert_eq!((task.status(), task.failure_count, task.attempt_count), (TaskStatus::InProgress, 0, 1));
    assert_eq!((task.agent_id.as_deref(), task.lease_expire_time), (Some("agent"), result.lease_expire_time));
    let attempt = latest_attempt(&server.client, &task.id).await;
    assert_eq!((attempt.status(), attempt.end_time), (AttemptStatus::Running, None));
    assert_eq!(kinds(&server.client, &run.id).await.last().unwrap(), "lease_resumed");
    expire(&server, &run, 2).await;
    assert_eq!(get_task(&server.client, &task.id).await.failure_count, 1, "an attempt counts as one failure");
}

#[tokio::test]
async fn late_heartbeat_is_lost_if_the_task_is_not_claimable() {
    let server = TestServer::start().await;
    let client = &server.client;
    // Another agent has claimed the task.
    let (run, claim) = held(&server).await;
    expire(&server, &run, 1).await;
    let other = claim_for(client, &run.id, "other", 40).await.unwrap();
    assert_eq!(beat(client, &claim).await.state(), LeaseState::Lost);
    assert_eq!(beat(client, &other).await.state(), LeaseState::Extended);
    // Another task holds the paths.
    let with = |path: &str| TaskDraft { allowed_paths: vec![path.into()], ..draft(path) };
    let (run, claim) = held_with(&server, with("src/a")).await;
    expire(&server, &run, 1).await;
    add_task(client, &run.id, TaskDraft { priority: 1, ..with("src") }).await;
    claim_for(client, &run.id, "other", 40).await.unwrap();
    assert_eq!(beat(client, &claim).await.state(), LeaseState::Lost);
    // The run is paused.
    let (run, claim) = held(&server).await;
    expire(&server, &run, 1).await;
    client.pause_run(PauseRunRequest { run_id: run.id.clone(), ..unset() }).await.unwrap();
    assert_eq!(beat(client, &claim).await.state(), LeaseState::Lost);
    client.resume_run(ResumeRunRequest { run_id: run.id, ..unset() }).await.unwrap();
    assert_eq!(beat(client, &claim).await.state(), LeaseState::Extended, "a pause must not make the token stale");
}

#[tokio::test]
async fn late_write_is_rejected_after_another_agent_claimed_the_task() {
    let server = TestServer::start().await;
    let (run, old) = held(&server).await;
    expire(&server, &run, 1).await;
    let new = claim_for(&server.client, &run.id, "other", 40).await.unwrap();
    assert_eq!(reason(server.client.complete_task(completion(&old)).await), Reason::StaleLease);
    assert_eq!(reason(server.client.fail_task(failure(&old)).await), Reason::StaleLease);
    assert_eq!(reason(release(&server.client, &old).await), Reason::StaleLease);
    let log = log(&server.client, &run.id).await;
    let calls: Vec<_> = log.iter().filter(|event| event.kind == "stale_write_rejected").collect();
    let calls: Vec<_> = calls.iter().map(|event| json(&event.payload)["call"].clone()).collect();
    assert_eq!(calls, ["CompleteTask", "FailTask", "ReleaseTask"]);
    complete(&server.client, &new).await;
}

/// Covers every way in which an operator moves a task whose lease has expired.
#[tokio::test]
async fn late_write_is_rejected_after_an_operator_moved_the_task() {
    let server = TestServer::start().await;
    let client = &server.client;
    for by in ["block", "abandon", "block and requeue", "replan"] {
        let (run, claim) = held(&server).await;
        expire(&server, &run, 1).await;
        let task_id = task_id(&claim);
        if by.starts_with("block") {
            client.block_task(BlockTaskRequest { task_id: task_id.clone(), ..unset() }).await.unwrap();
        }
        match by {
            "abandon" => drop(abandon(client, &task_id).await),
            "block and requeue" => drop(requeue(client, &task_id).await.unwrap()),
            "replan" => {
                let replan = ReplacePendingTasksRequest { run_id: run.id.clone(), ..unset() };
                client.replace_pending_tasks(replan).await.unwrap();
            }
            _ => {}
        }
        assert_eq!(reason(client.complete_task(completion(&claim)).await), Reason::StaleLease, "{by}");
        assert_eq!(beat(client, &claim).await.state(), LeaseState::Lost, "{by}");
    }
}

#[tokio::test]
async fn expiry_of_the_last_attempt_blocks_the_task() {
    let server = TestServer::start().await;
    let (run, claim) = held_with(&server, TaskDraft { max_attempts: 1, ..draft("t") }).await;
    expire(&server, &run, 1).await;
    let task = get_task(&server.client, &task_id(&claim)).await;
    assert_eq!((task.status(), task.blocker_signature.as_deref()), (TaskStatus::Blocked, Some("attempts_exhausted")));
    assert_eq!(beat(&server.client, &claim).await.state(), LeaseState::Lost, "the task is not claimable");
    let task = complete(&server.client, &claim).await;
    assert_eq!((task.status(), task.blocker_signature), (TaskStatus::Completed, None));
}

#[tokio::test]
async fn repeated_claim_returns_the_expired_lease_until_the_task_is_claimed() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, draft("t")).await;
    let request =
        ClaimTaskRequest { lease_duration: seconds(40), request_id: "id".into(), ..claim_request(&run.id, "agent") };
    let first = client.claim_task(request.clone()).await.unwrap();
    expire(&server, &run, 1).await;
    assert_eq!(client.claim_task(request.clone()).await.unwrap(), first);
    claim(client, &run.id).await.unwrap();
    assert_eq!(reason(client.claim_task(request).await), Reason::StaleLease);
}

/// Nobody can report while the server is away, so leases live 30 s longer, or their duration if that is less.
#[tokio::test]
async fn holders_can_report_first_after_a_restart() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![draft("t"); 3]).await;
    let mut claims = Vec::new();
    for lease in [5, 60, 3_600] {
        claims.push(claim_for(&server.client, &run.id, "agent", lease).await.unwrap());
    }
    let clock = server.clock.clone();
    let folder = server.stop().await;
    clock.advance(Duration::from_secs(600));
    let server = TestServer::start_in(folder, clock).await;
    let mut ends = Vec::new();
    for claim in &claims {
        ends.push(get_task(&server.client, &task_id(claim)).await.lease_expire_time.unwrap().seconds - 1_800_000_600);
    }
    assert_eq!(ends, [5, 30, 3_000]);
    assert_eq!(beat(&server.client, &claims[1]).await.state(), LeaseState::Extended);
    server.clock.advance(Duration::from_secs(5));
    until_logged(&server.client, &run.id, "lease_expired", 1).await;
    assert_eq!(get_task(&server.client, &task_id(&claims[0])).await.status(), TaskStatus::Pending);
    assert_eq!(get_task(&server.client, &task_id(&claims[1])).await.status(), TaskStatus::InProgress);
}

#[tokio::test]
async fn leases_do_not_expire_right_after_a_stall() {
    let server = TestServer::start().await;
    let (run, claim) = held(&server).await;
    server.clock.stall(Duration::from_secs(600));
    let extended = Some(prost_types::Timestamp { seconds: 1_800_000_630, nanos: 0 });
    let task = task_id(&claim);
    crate::support::until(|| async { get_task(&server.client, &task).await.lease_expire_time == extended }).await;
    server.clock.advance(Duration::from_secs(30));
    until_logged(&server.client, &run.id, "lease_expired", 1).await;
}
