//! The clock of the machine is set forward or back, while the server runs and while no server runs.

use std::time::Duration;

use prost_types::Timestamp;
use runhub_client::v1::*;
use runhub_server::clock::{CLOCK_CHECK_INTERVAL, Clock};

use crate::support::calls::*;
use crate::support::{TestServer, soon, until};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// The steps of the clock in seconds. The times in these tests are shorter than each step.
const STEPS: [i64; 4] = [-DAY, -HOUR, HOUR, DAY];

const LEASE: i64 = 100;
const RETRY: i64 = 60;
const TTL: i64 = 70;

/// A run with durations that have started, and with times that a caller has passed as times.
struct Started {
    run: Run,
    leased: Claim,
    retried: String,
    planned: String,
    with_ttl: Approval,
    with_time: Approval,
}

async fn start(server: &TestServer) -> Started {
    let client = &server.client;
    let run = new_run(client).await;
    let in_a_minute = Some(after(now(server).await, 60));
    add_tasks(client, &run.id, vec![draft("failing"), draft("leased")]).await;
    let failing = claim_for(client, &run.id, "agent", LEASE).await.unwrap();
    let leased = claim_for(client, &run.id, "agent", LEASE).await.unwrap();
    client.fail_task(FailTaskRequest { retry_delay: seconds(RETRY), ..failure(&failing) }).await.unwrap();
    let planned = TaskDraft { not_before_time: in_a_minute, ..draft("planned") };
    let planned = add_task(client, &run.id, planned).await.id;
    let approval = RequestApprovalRequest { run_id: run.id.clone(), title: "a".into(), ..unset() };
    let with_ttl = RequestApprovalRequest { ttl: seconds(TTL), ..approval.clone() };
    let with_time = RequestApprovalRequest { expire_time: in_a_minute, ..approval };
    let with_ttl = client.request_approval(with_ttl).await.unwrap().approval.unwrap();
    let with_time = client.request_approval(with_time).await.unwrap().approval.unwrap();
    Started { run, leased, retried: task_id(&failing), planned, with_ttl, with_time }
}

async fn now(server: &TestServer) -> Timestamp {
    server.client.get_server_info(GetServerInfoRequest {}).await.unwrap().server_time.unwrap()
}

fn after(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp { seconds: time.seconds + seconds, ..time }
}

/// Sets the wall clock forward, or back if `step` is negative, by a number of seconds.
fn set_clock(server: &TestServer, step: i64) {
    let by = Duration::from_secs(step.unsigned_abs());
    if step < 0 { server.clock.set_back(by) } else { server.clock.set_forward(by) }
}

/// Sets the clock and waits until the server has followed.
async fn step_clock(server: &TestServer, step: i64) {
    let before = now(server).await;
    set_clock(server, step);
    server.clock.advance(CLOCK_CHECK_INTERVAL);
    until(|| async { now(server).await.seconds == before.seconds + step }).await;
}

async fn is_ready(server: &TestServer, task_id: &str) -> bool {
    explain(&server.client, task_id).await.claimable
}

async fn verdict(server: &TestServer, approval: &Approval) -> ApprovalVerdict {
    get_approval(&server.client, &approval.id).await.verdict()
}

#[tokio::test]
async fn durations_keep_their_remaining_time_while_the_server_runs() {
    for step in STEPS {
        let server = TestServer::start().await;
        let started = start(&server).await;
        let before = get_task(&server.client, &task_id(&started.leased)).await;
        let retried = get_task(&server.client, &started.retried).await;
        let events = log(&server.client, &started.run.id).await.len();
        step_clock(&server, step).await;
        let leased = get_task(&server.client, &before.id).await;
        assert_eq!(leased.lease_expire_time, before.lease_expire_time.map(|time| after(time, step)), "{step}");
        assert_eq!((leased.revision, leased.update_time), (before.revision, before.update_time));
        let not_before = get_task(&server.client, &started.retried).await.not_before_time;
        assert_eq!(not_before, retried.not_before_time.map(|time| after(time, step)));
        let ttl_end = get_approval(&server.client, &started.with_ttl.id).await.expire_time;
        assert_eq!(ttl_end, started.with_ttl.expire_time.map(|time| after(time, step)));
        if step < 0 {
            assert_eq!(log(&server.client, &started.run.id).await.len(), events, "a step appends no event");
        }
        check_ends(&server, &started, step).await;
    }
}

/// Lets the durations end one after another.
async fn check_ends(server: &TestServer, started: &Started, step: i64) {
    server.clock.advance(Duration::from_secs(59) - CLOCK_CHECK_INTERVAL);
    assert!(!is_ready(server, &started.retried).await, "{step}");
    assert_eq!(verdict(server, &started.with_ttl).await, ApprovalVerdict::Pending, "{step}");
    server.clock.advance(Duration::from_secs(1));
    until(|| is_ready(server, &started.retried)).await;
    server.clock.advance(Duration::from_secs(10));
    until(|| async { verdict(server, &started.with_ttl).await == ApprovalVerdict::Expired }).await;
    // Times that a caller passed as times follow the wall clock.
    if step < 0 {
        assert!(!is_ready(server, &started.planned).await, "{step}");
        assert_eq!(verdict(server, &started.with_time).await, ApprovalVerdict::Pending, "{step}");
    }
    assert!(get_task(&server.client, &task_id(&started.leased)).await.agent_id.is_some(), "{step}");
    server.clock.advance(Duration::from_secs(30));
    until_logged(&server.client, &started.run.id, "lease_expired", 1).await;
}

#[tokio::test]
async fn times_of_callers_follow_the_clock() {
    for step in [HOUR, DAY] {
        let server = TestServer::start().await;
        let started = start(&server).await;
        step_clock(&server, step).await;
        until(|| is_ready(&server, &started.planned)).await;
        until(|| async { verdict(&server, &started.with_time).await == ApprovalVerdict::Expired }).await;
        assert!(!is_ready(&server, &started.retried).await);
        // A step back does not delay a task again whose time has come.
        step_clock(&server, -step).await;
        assert!(is_ready(&server, &started.planned).await);
    }
}

/// A lease that was granted after the step, but before the server has followed the step, keeps its duration.
#[tokio::test]
async fn lease_granted_before_the_server_follows_a_step_keeps_its_duration() {
    // The server can follow the step first, if its sweeper looks at the clock at that moment. Then try again.
    for _ in 0..20 {
        let server = TestServer::start().await;
        let run = new_run(&server.client).await;
        add_task(&server.client, &run.id, draft("t")).await;
        let before = now(&server).await;
        set_clock(&server, -DAY);
        let claim = claim_for(&server.client, &run.id, "agent", LEASE).await.unwrap();
        let followed = Some(after(before, LEASE - DAY));
        if claim.lease_expire_time != followed {
            assert_eq!(claim.lease_expire_time, Some(after(before, LEASE)));
            server.clock.advance(CLOCK_CHECK_INTERVAL);
            until(|| async { get_task(&server.client, &task_id(&claim)).await.lease_expire_time == followed }).await;
            return;
        }
    }
    panic!("the server always followed the step first");
}

/// After the clock was set back while no server ran, no duration lasts longer. After the clock was set forward, the time
/// counts as passed, but every live lease is extended.
#[tokio::test]
async fn durations_after_a_step_across_a_restart() {
    for step in STEPS {
        let server = TestServer::start().await;
        let started = start(&server).await;
        let before = get_task(&server.client, &task_id(&started.leased)).await;
        let clock = server.clock.clone();
        let start_time = now(&server).await;
        set_clock(&server, step);
        let folder = server.stop().await;
        clock.adopt(clock.step());
        let server = TestServer::start_in(folder, clock).await;
        assert_eq!(now(&server).await, after(start_time, step));
        let leased = get_task(&server.client, &before.id).await;
        assert_eq!(leased.revision, before.revision);
        if step < 0 {
            assert_eq!(leased.lease_expire_time, before.lease_expire_time.map(|time| after(time, step)));
            server.clock.advance(CLOCK_CHECK_INTERVAL);
            check_ends(&server, &started, step).await;
        } else {
            assert_eq!(leased.lease_expire_time, Some(after(start_time, step + 30)));
            assert!(is_ready(&server, &started.retried).await && is_ready(&server, &started.planned).await);
            for approval in [&started.with_ttl, &started.with_time] {
                until(|| async { verdict(&server, approval).await == ApprovalVerdict::Expired }).await;
            }
        }
    }
}

/// The grace period of a cancellation keeps its remaining time.
#[tokio::test]
async fn grace_period_keeps_its_remaining_time() {
    for step in STEPS {
        let server = TestServer::start().await;
        let run = new_run(&server.client).await;
        add_task(&server.client, &run.id, draft("t")).await;
        claim_for(&server.client, &run.id, "agent", LEASE).await.unwrap();
        let cancel = CancelRunRequest { run_id: run.id.clone(), grace: seconds(50), ..unset() };
        server.client.cancel_run(cancel).await.unwrap();
        step_clock(&server, step).await;
        server.clock.advance(Duration::from_secs(49) - CLOCK_CHECK_INTERVAL);
        assert_eq!(get_run(&server.client, &run.id).await.status(), RunStatus::Cancelling, "{step}");
        server.clock.advance(Duration::from_secs(1));
        until_logged(&server.client, &run.id, "run_cancelled", 1).await;
    }
}

/// A call with `wait` waits for the time that really passes.
#[tokio::test]
async fn waits_do_not_follow_the_clock() {
    for step in STEPS {
        let server = TestServer::start().await;
        let run = new_run(&server.client).await;
        let approval = request_approval(&server.client, &run.id, "d").await;
        let claim = ClaimTaskRequest { wait: seconds(3), ..claim_request(&run.id, "agent") };
        let decision = WaitApprovalRequest { approval_id: approval.id, wait: seconds(3) };
        let position = log(&server.client, &run.id).await.last().unwrap().position;
        let list = ListEventsRequest { after_position: Some(position), wait: seconds(3), ..unset() };
        let set_and_pass = async {
            server.until_claims_wait(1).await;
            server.until_approvals_wait(1).await;
            server.until_reader_waits().await;
            set_clock(&server, step);
            server.clock.advance(Duration::from_secs(3));
        };
        let calls = async {
            tokio::join!(
                server.client.claim_task(claim),
                server.client.wait_approval(decision),
                server.client.list_events(list),
                set_and_pass
            )
        };
        let (claimed, decided, listed, ()) = soon(calls).await;
        assert!(claimed.unwrap().claim.is_none());
        assert_eq!(decided.unwrap().approval.unwrap().verdict(), ApprovalVerdict::Pending);
        assert!(listed.unwrap().events.is_empty());
    }
}
