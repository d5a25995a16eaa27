//! The Rust client's lease keeper: it extends a lease, ends the work of a lost one, and reports pause and cancel
//! requests.
//!
//! The keeper sends its heartbeats in real time. The leases of a `TestServer` follow a clock that the test moves.

use std::future::pending;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runhub_client::v1::*;
use runhub_client::{Client, LeaseLost, Reason};
use runhub_server::clock::Clock;
use tokio::sync::oneshot;

use crate::support::binary::Binary;
use crate::support::breaking_proxy::BreakingProxy;
use crate::support::calls::*;
use crate::support::{TestServer, soon, until};

/// Creates a run with one task and claims the task.
async fn claim_for(client: &Client, lease: Duration) -> Claim {
    let run = new_run(client).await;
    add_task(client, &run.id, draft("t")).await;
    let lease_duration = Some(lease.try_into().unwrap());
    let request = ClaimTaskRequest { lease_duration, ..claim_request(&run.id, "agent") };
    client.claim_task(request).await.unwrap().claim.unwrap()
}

fn run_id(claim: &Claim) -> String {
    claim.task.as_ref().unwrap().run_id.clone()
}

/// The keeper sends a heartbeat for this lease every second, so two heartbeats may be late.
const SHORT: Duration = Duration::from_secs(3);

/// Waits until the lease has been extended at the current time of the clock.
async fn until_extended(server: &TestServer, claim: &Claim) {
    let (seconds, nanos) = server.clock.now().plus(SHORT).seconds_and_nanos();
    let extended = Some(prost_types::Timestamp { seconds, nanos });
    until(async || get_task(&server.client, &task_id(claim)).await.lease_expire_time == extended).await;
}

/// Returns the progress of the latest attempt, or null if none was reported.
async fn progress_of(client: &Client, claim: &Claim) -> serde_json::Value {
    let request = GetLatestTaskAttemptRequest { task_id: task_id(claim) };
    json(&client.get_latest_task_attempt(request).await.unwrap().attempt.unwrap().progress)
}

async fn until_progress(client: &Client, claim: &Claim, expected: serde_json::Value) {
    until(async || progress_of(client, claim).await == expected).await;
}

fn abandon(claim: &Claim) -> AbandonTaskRequest {
    AbandonTaskRequest { task_id: task_id(claim), ..unset() }
}

/// Records that it was dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn keeper_extends_a_lease_beyond_its_duration() {
    let server = TestServer::start().await;
    let claim = claim_for(&server.client, SHORT).await;
    let keeper = server.client.keep_lease(&claim);
    let work = async {
        for _ in 0..4 {
            server.clock.advance(SHORT * 3 / 4);
            until_extended(&server, &claim).await;
        }
        "worked"
    };
    assert_eq!(keeper.run(work).await.unwrap(), "worked");
    assert_eq!(keeper.state(), LeaseState::Extended);
    assert_eq!(complete(&server.client, &claim).await.status(), TaskStatus::Completed);
    let seen = kinds(&server.client, &run_id(&claim)).await;
    assert_eq!(seen, ["run_created", "tasks_added", "task_claimed", "task_completed"]);
}

#[tokio::test]
async fn keeper_extends_a_lease_behind_a_proxy_that_breaks_heartbeats() {
    let server = TestServer::start().await;
    let proxy = BreakingProxy::start(&server.url).await;
    let claim = claim_for(&server.client, SHORT).await;
    let keeper = Client::connect(&proxy.address).await.unwrap().keep_lease(&claim);
    let work = async {
        for _ in 0..3 {
            server.clock.advance(SHORT * 3 / 4);
            until_extended(&server, &claim).await;
        }
    };
    keeper.run(work).await.unwrap();
    assert_eq!(complete(&server.client, &claim).await.status(), TaskStatus::Completed);
}

/// Without its keeper, a lease expires.
#[tokio::test]
async fn dropped_keeper_sends_no_heartbeats() {
    let server = TestServer::start().await;
    let claim = claim_for(&server.client, SHORT).await;
    let keeper = server.client.keep_lease(&claim);
    server.clock.advance(SHORT / 2);
    until_extended(&server, &claim).await;
    drop(keeper);
    let dropped = Instant::now();
    until(async || {
        server.clock.advance(SHORT);
        dropped.elapsed() > SHORT * 2
    })
    .await;
    let seen = kinds(&server.client, &run_id(&claim)).await;
    assert!(seen.contains(&"lease_expired".to_owned()), "{seen:?}");
    // Each heartbeat would have resumed the lease. One may have been under way when the keeper was dropped.
    assert!(seen.iter().filter(|kind| *kind == "lease_resumed").count() <= 1, "{seen:?}");
}

#[tokio::test]
async fn work_is_cancelled_when_the_lease_is_lost() {
    let server = TestServer::start().await;
    let claim = claim_for(&server.client, SHORT).await;
    let keeper = server.client.keep_lease(&claim);
    let dropped = Arc::new(AtomicBool::new(false));
    let (begin, begun) = oneshot::channel();
    let guard = Guard(dropped.clone());
    let work = async move {
        let _guard = guard;
        begin.send(()).unwrap();
        pending::<()>().await
    };
    let taken = async {
        begun.await.unwrap();
        server.client.abandon_task(abandon(&claim)).await.unwrap();
    };
    let (lost, ()) = soon(async { tokio::join!(keeper.run(work), taken) }).await;
    assert!(matches!(lost, Err(LeaseLost::Taken { .. })), "{lost:?}");
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(keeper.state(), LeaseState::Lost);
    // A lost lease stays lost, whichever method is called.
    assert!(matches!(keeper.lost().await, LeaseLost::Taken { .. }));
    assert!(matches!(soon(keeper.cancel_requested()).await, Err(LeaseLost::Taken { .. })));
    let mut began = false;
    assert!(keeper.run(async { began = true }).await.is_err());
    assert!(!began);
}

/// The first heartbeat, not the second, detects that a claim is stale.
#[tokio::test]
async fn first_heartbeat_detects_a_lost_lease() {
    let server = TestServer::start().await;
    let claim = claim_for(&server.client, Duration::from_secs(24 * 3600)).await;
    let requeue = RequeueInProgressTasksRequest { run_id: run_id(&claim), ..unset() };
    server.client.requeue_in_progress_tasks(requeue).await.unwrap();
    let asked = Instant::now();
    let lost = server.client.keep_lease(&claim).run(pending::<()>()).await;
    assert!(matches!(lost, Err(LeaseLost::Taken { .. })), "{lost:?}");
    assert!(asked.elapsed() < Duration::from_secs(8), "before a second heartbeat: {:?}", asked.elapsed());
}

#[tokio::test]
async fn progress_is_sent_once_and_the_latest_wins() {
    let server = TestServer::start().await;
    let claim = claim_for(&server.client, SHORT).await;
    let keeper = server.client.keep_lease(&claim);
    assert_eq!(progress_of(&server.client, &claim).await, serde_json::Value::Null);
    for done in [1, 2] {
        keeper.progress(value(serde_json::json!({ "done": done })).unwrap());
    }
    until_progress(&server.client, &claim, serde_json::json!({ "done": 2 })).await;

    // Progress reported by another call stands: later heartbeats of the keeper carry none.
    server.clock.advance(SHORT / 4);
    until_extended(&server, &claim).await;
    let beat = Beat { lease_token: claim.lease_token.clone(), progress: value(serde_json::json!("by hand")) };
    server.client.heartbeat(HeartbeatRequest { beats: vec![beat], ..unset() }).await.unwrap();
    server.clock.advance(SHORT / 4);
    until_extended(&server, &claim).await;
    assert_eq!(progress_of(&server.client, &claim).await, "by hand");
    keeper.progress(value(serde_json::json!("more")).unwrap());
    until_progress(&server.client, &claim, "more".into()).await;
}

#[tokio::test]
async fn refused_heartbeat_loses_the_lease_with_its_cause() {
    let server = TestServer::start().await;
    let claim = claim_for(&server.client, SHORT).await;
    let keeper = server.client.keep_lease(&claim);
    keeper.progress(value(serde_json::json!("x".repeat(2 * 1024 * 1024))).unwrap());
    let lost = soon(keeper.run(pending::<()>())).await.unwrap_err();
    let LeaseLost::Refused { cause: error, .. } = &lost else { panic!("{lost:?}") };
    assert_eq!(error.reason(), Some(&Reason::InvalidField));
    assert!(lost.to_string().contains("progress"), "{lost}");
}

#[tokio::test]
async fn pause_and_cancel_requests_are_reported_without_ending_work() {
    let server = TestServer::start().await;
    let client = &server.client;
    let claim = claim_for(&server.client, SHORT).await;
    let run_id = run_id(&claim);
    let keeper = client.keep_lease(&claim);
    let work = async {
        keeper.resumed().await.unwrap();
        client.pause_run(PauseRunRequest { run_id: run_id.clone(), ..unset() }).await.unwrap();
        keeper.pause_requested().await.unwrap();
        assert_eq!(keeper.state(), LeaseState::PauseRequested);
        client.resume_run(ResumeRunRequest { run_id: run_id.clone(), ..unset() }).await.unwrap();
        keeper.resumed().await.unwrap();
        client.cancel_run(CancelRunRequest { run_id: run_id.clone(), ..unset() }).await.unwrap();
        keeper.cancel_requested().await.unwrap();
        assert_eq!(keeper.state(), LeaseState::CancelRequested);
    };
    soon(keeper.run(work)).await.unwrap();
    assert_eq!(complete(client, &claim).await.status(), TaskStatus::Completed);
}

fn socket(folder: &Path) -> String {
    format!("unix:{}/sock", folder.display())
}

#[tokio::test]
async fn keeper_survives_a_server_restart() {
    let folder = tempfile::tempdir().unwrap();
    let listen = socket(folder.path());
    let server = Binary::start_in_on(&listen, folder.path(), &[]);
    let client = server.connect().await;
    let claim = claim_for(&client, Duration::from_secs(10)).await;
    let keeper = client.keep_lease(&claim);
    let work = async {
        server.kill();
        let mut server = Binary::start_in_on(&listen, folder.path(), &[]);
        keeper.progress(value("after a crash".into()).unwrap());
        until_progress(&server.connect().await, &claim, "after a crash".into()).await;
        server.terminate();
        assert!(server.wait().await);
        server = Binary::start_in_on(&listen, folder.path(), &[]);
        keeper.progress(value("after a stop".into()).unwrap());
        until_progress(&server.connect().await, &claim, "after a stop".into()).await;
        server
    };
    let server = soon(keeper.run(work)).await.unwrap();
    assert_eq!(complete(&server.connect().await, &claim).await.status(), TaskStatus::Completed);
}

/// A killed server makes every heartbeat fail at once. A stopped one gives no answer at all.
#[tokio::test]
async fn lease_is_lost_when_the_server_is_silent_for_its_duration() {
    for is_killed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let listen = socket(folder.path());
        let server = Binary::start_in_on(&listen, folder.path(), &[]);
        let client = server.connect().await;
        let lease = SHORT * 2;
        let claim = claim_for(&client, lease).await;
        let began = Instant::now();
        let keeper = client.keep_lease(&claim);
        keeper.progress(value("begun".into()).unwrap());
        until_progress(&client, &claim, "begun".into()).await;
        let _stopped = if is_killed {
            server.kill();
            None
        } else {
            let stopped = Command::new("kill").args(["-STOP", &server.pid().to_string()]).status().unwrap();
            assert!(stopped.success());
            Some(server)
        };
        let lost = soon(keeper.run(pending::<()>())).await.unwrap_err();
        let LeaseLost::Unanswered { cause: error, .. } = &lost else { panic!("{lost:?}") };
        assert!(error.is_temporary(), "{lost}");
        assert!(began.elapsed() >= lease, "{:?}", began.elapsed());
        assert!(began.elapsed() < lease * 10, "{:?}", began.elapsed());
    }
}
