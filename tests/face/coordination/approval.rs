//! C9: approvals are requested, waited for, decided once, bound to a digest and consumed once.

use std::sync::Arc;
use std::time::Duration;

use runhub_client::v1::*;
use runhub_client::{Client, Error, Reason};
use runhub_server::actions::approval;
use runhub_server::clock::ManualClock;
use runhub_server::domain::run::RunDraft;
use runhub_server::domain::time::Timestamp;
use runhub_server::domain::{approval as domain, system_event};
use runhub_server::error::Error as StoreError;
use runhub_server::store::{Store, Tx, runs};

use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::{TestServer, soon};

/// Lifetime of the approvals here. It differs from every other duration in the server.
const TTL: Duration = Duration::from_secs(7);

/// Requests an approval that expires after `TTL`.
async fn request_expiring(client: &Client, run_id: &str, on_expiry: ExpiryPolicy) -> Approval {
    let run_id = run_id.into();
    let on_expiry = on_expiry.into();
    let request = RequestApprovalRequest { run_id, title: "t".into(), ttl: seconds(7), on_expiry, ..unset() };
    client.request_approval(request).await.unwrap().approval.unwrap()
}

async fn consume(client: &Client, approval_id: &str, digest: &str) -> Result<Approval, Error> {
    let approval_id = approval_id.into();
    let subject_digest = digest.into();
    let request = ConsumeApprovalRequest { approval_id, subject_digest, ..unset() };
    Ok(client.consume_approval(request).await?.approval.unwrap())
}

async fn wait(client: &Client, approval_id: &str, wait: i64) -> Approval {
    let request = WaitApprovalRequest { approval_id: approval_id.into(), wait: seconds(wait) };
    client.wait_approval(request).await.unwrap().approval.unwrap()
}

/// Returns the verdict and the source that an ALREADY_DECIDED error names.
fn winner(error: Error) -> (String, String) {
    match error {
        Error::Refused { reason: Reason::AlreadyDecided, metadata, .. } => {
            (metadata["verdict"].clone(), metadata["source"].clone())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn approval_is_pending_until_decided() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    let request = RequestApprovalRequest {
        run_id: run.id.clone(),
        task_id: Some(task.id.clone()),
        title: "deploy".into(),
        payload: value(serde_json::json!({ "to": "prod" })),
        requested_by: "agent".into(),
        subject_digest: "sha256:1".into(),
        ttl: seconds(60),
        ..unset()
    };
    let asked = client.request_approval(request).await.unwrap().approval.unwrap();
    assert_eq!((asked.verdict(), &*asked.source, asked.decide_time), (ApprovalVerdict::Pending, "", None));
    assert_eq!((asked.on_expiry(), asked.expire_time.unwrap().seconds), (ExpiryPolicy::Reject, 1_800_000_060));
    assert_eq!((asked.task_id.as_deref(), &*asked.requested_by), (Some(&*task.id), "agent"));
    let decided = decide(client, &asked.id, ApprovalVerdict::ChangesRequested).await.unwrap();
    assert_eq!((decided.verdict(), &*decided.source), (ApprovalVerdict::ChangesRequested, "human"));
    assert_eq!((decided.revision, decided.decide_time.is_some()), (2, true));
    assert_eq!(get_approval(client, &asked.id).await, decided);
    let log = log(client, &run.id).await;
    let kinds: Vec<_> = log[2..].iter().map(|event| (&*event.kind, event.task_id.as_deref())).collect();
    assert_eq!(kinds, [("approval_requested", Some(&*task.id)), ("approval_decided", Some(&*task.id))]);
}

#[tokio::test]
async fn exactly_one_decision_wins_and_the_others_learn_the_winner() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let asked = request_approval(client, &run.id, "d").await;
    let calls: Vec<_> = (0..16)
        .map(|at| {
            let client = client.clone();
            let approval_id = asked.id.clone();
            let source = format!("judge {at}");
            let verdict = if at % 2 == 0 { ApprovalVerdict::Approved } else { ApprovalVerdict::Rejected }.into();
            let request = DecideApprovalRequest { approval_id, source, verdict, ..unset() };
            tokio::spawn(async move { client.decide_approval(request).await })
        })
        .collect();
    let mut won = Vec::new();
    let mut refused = Vec::new();
    for call in calls {
        match soon(call).await.unwrap() {
            Ok(answer) => won.push(answer.approval.unwrap()),
            Err(error) => refused.push(winner(error)),
        }
    }
    assert_eq!((won.len(), refused.len()), (1, 15));
    let winner = (won[0].verdict().as_str_name().to_owned(), won[0].source.clone());
    assert!(refused.iter().all(|one| *one == winner), "{refused:?}");
}

#[tokio::test]
async fn wait_returns_with_the_decision() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let asked = request_approval(client, &run.id, "d").await;
    assert_eq!(wait(client, &asked.id, 0).await.verdict(), ApprovalVerdict::Pending);
    let waiting = || {
        let client = client.clone();
        let id = asked.id.clone();
        tokio::spawn(async move { wait(&client, &id, 100).await })
    };
    let first = waiting();
    let second = waiting();
    server.until_approvals_wait(2).await;
    decide(client, &asked.id, ApprovalVerdict::Rejected).await.unwrap();
    assert_eq!(soon(first).await.unwrap().verdict(), ApprovalVerdict::Rejected);
    assert_eq!(soon(second).await.unwrap().verdict(), ApprovalVerdict::Rejected);
    let decided = wait(client, &asked.id, 100).await;
    assert_eq!(decided.verdict(), ApprovalVerdict::Rejected, "a decided approval must return at once");
}

#[tokio::test]
async fn wait_ends_at_its_timeout_and_when_the_server_drains() {
    let server = TestServer::start().await;
    let client = server.client.clone();
    let run = new_run(&server.client).await;
    let asked = request_approval(&client, &run.id, "d").await;
    let waiting = |seconds_to_wait: i64| {
        let request = WaitApprovalRequest { approval_id: asked.id.clone(), wait: seconds(seconds_to_wait) };
        let client = client.clone();
        tokio::spawn(async move { client.wait_approval(request).await })
    };
    let call = waiting(10);
    server.until_approvals_wait(1).await;
    server.clock.advance(Duration::from_secs(10));
    assert_eq!(soon(call).await.unwrap().unwrap().approval.unwrap().verdict(), ApprovalVerdict::Pending);
    let call = waiting(10);
    server.until_approvals_wait(1).await;
    soon(server.stop()).await;
    assert_eq!(reason(soon(call).await.unwrap()), Reason::Draining);
}

/// Each approval expires once, with one event, by its policy.
#[tokio::test]
async fn undecided_approval_expires_by_its_policy() {
    let server = TestServer::start().await;
    let client = &server.client;
    let policies = [
        (ExpiryPolicy::Reject, ApprovalVerdict::Expired, "system", RunStatus::Planning),
        (ExpiryPolicy::Approve, ApprovalVerdict::Approved, "system", RunStatus::Planning),
        (ExpiryPolicy::KeepPending, ApprovalVerdict::Pending, "", RunStatus::Planning),
        (ExpiryPolicy::PauseRun, ApprovalVerdict::Pending, "", RunStatus::Paused),
    ];
    for (policy, verdict, source, status) in policies {
        let run = new_run(client).await;
        let asked = request_expiring(client, &run.id, policy).await;
        server.clock.advance(TTL);
        let event = until_logged(client, &run.id, "approval_expired", 1).await;
        assert_eq!(json(&event.payload)["verdict"], verdict.as_str_name());
        let expired = get_approval(client, &asked.id).await;
        assert_eq!((expired.verdict(), &*expired.source), (verdict, source), "{policy:?}");
        assert_eq!(expired.decide_time.is_some(), verdict != ApprovalVerdict::Pending);
        assert_eq!(get_run(client, &run.id).await.status(), status);
        let late = decide(client, &asked.id, ApprovalVerdict::Approved).await;
        assert_eq!(late.is_ok(), verdict == ApprovalVerdict::Pending, "{policy:?}");
        // After another expiry, the server has swept again, and there is still one event.
        let other = new_run(client).await;
        request_expiring(client, &other.id, policy).await;
        server.clock.advance(TTL);
        until_logged(client, &other.id, "approval_expired", 1).await;
        let expiries = kinds(client, &run.id).await.into_iter().filter(|kind| kind == "approval_expired");
        assert_eq!(expiries.count(), 1, "one event per approval");
    }
}

#[tokio::test]
async fn expiry_that_decides_wakes_the_wait() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let asked = request_expiring(client, &run.id, ExpiryPolicy::Approve).await;
    let call = {
        let client = client.clone();
        let id = asked.id.clone();
        tokio::spawn(async move { wait(&client, &id, 300).await })
    };
    server.until_approvals_wait(1).await;
    server.clock.advance(TTL);
    assert_eq!(soon(call).await.unwrap().verdict(), ApprovalVerdict::Approved);
}

#[tokio::test]
async fn cancelled_approval_cannot_be_decided() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let asked = request_approval(client, &run.id, "d").await;
    let cancel = CancelApprovalRequest { approval_id: asked.id.clone(), ..unset() };
    let cancelled = client.cancel_approval(cancel.clone()).await.unwrap().approval.unwrap();
    assert_eq!(cancelled.verdict(), ApprovalVerdict::Cancelled);
    let late = decide(client, &asked.id, ApprovalVerdict::Approved).await.unwrap_err();
    assert_eq!(winner(late).0, "APPROVAL_VERDICT_CANCELLED");
    assert_eq!(winner(client.cancel_approval(cancel).await.unwrap_err()).0, "APPROVAL_VERDICT_CANCELLED");
    assert_eq!(kinds(client, &run.id).await.last().unwrap(), "approval_cancelled");
}

#[tokio::test]
async fn approval_is_consumed_once_and_only_with_its_digest() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let asked = request_approval(client, &run.id, "sha256:1").await;
    assert_eq!(reason(consume(client, &asked.id, "sha256:1").await), Reason::NotApproved);
    decide(client, &asked.id, ApprovalVerdict::Approved).await.unwrap();
    assert_eq!(reason(consume(client, &asked.id, "sha256:2").await), Reason::DigestMismatch);
    let used = consume(client, &asked.id, "sha256:1").await.unwrap();
    assert!(used.consume_time.is_some());
    assert_eq!(reason(consume(client, &asked.id, "sha256:1").await), Reason::AlreadyConsumed);
    assert_eq!(kinds(client, &run.id).await.last().unwrap(), "approval_consumed");
}

/// `expire_time` limits when the approval is decided, not when it is consumed.
#[tokio::test]
async fn approval_decided_in_time_can_be_consumed_later() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let run_id = run.id.clone();
    let title = "t".to_owned();
    let subject_digest = "d".to_owned();
    let request = RequestApprovalRequest { run_id, title, subject_digest, ttl: seconds(60), ..unset() };
    let asked = client.request_approval(request).await.unwrap().approval.unwrap();
    decide(client, &asked.id, ApprovalVerdict::Approved).await.unwrap();
    server.clock.advance(Duration::from_secs(3_600));
    consume(client, &asked.id, "d").await.unwrap();
}

#[tokio::test]
async fn pending_approvals_are_listed_across_runs_oldest_first() {
    let server = TestServer::start().await;
    let client = &server.client;
    let one = new_run(client).await;
    let two = new_run(client).await;
    let asked = [
        request_approval(client, &two.id, "d").await,
        request_approval(client, &one.id, "d").await,
        request_approval(client, &two.id, "d").await,
    ];
    decide(client, &asked[1].id, ApprovalVerdict::Approved).await.unwrap();
    let verdicts = vec![ApprovalVerdict::Pending.into()];
    let mut inbox = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListApprovalsRequest { verdicts: verdicts.clone(), page_size: 1, page_token, ..unset() };
        let page = client.list_approvals(request).await.unwrap();
        inbox.extend(page.approvals.into_iter().map(|approval| approval.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(inbox, [asked[0].id.clone(), asked[2].id.clone()]);
}

#[tokio::test]
async fn latest_approval_is_the_one_decided_last() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let latest = || async {
        let request = GetLatestApprovalRequest { run_id: run.id.clone(), source: "human".into() };
        client.get_latest_approval(request).await.unwrap().approval.map(|approval| approval.id)
    };
    let first = request_approval(client, &run.id, "d").await;
    let second = request_approval(client, &run.id, "d").await;
    assert_eq!(latest().await, None);
    for asked in [&second, &first] {
        server.clock.advance(Duration::from_secs(1));
        decide(client, &asked.id, ApprovalVerdict::Approved).await.unwrap();
        assert_eq!(latest().await.as_ref(), Some(&asked.id));
    }
}

#[tokio::test]
async fn expired_approval_does_not_pause_an_ended_run() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let asked = request_expiring(client, &run.id, ExpiryPolicy::PauseRun).await;
    set_status(client, &run.id, RunStatus::Completed).await;
    server.clock.advance(TTL);
    until_logged(client, &run.id, "approval_expired", 1).await;
    assert_eq!(get_run(client, &run.id).await.status(), RunStatus::Completed);
    decide(client, &asked.id, ApprovalVerdict::Approved).await.unwrap();
}

/// Calls the actions on a store without a server, so that no sweeper runs.
#[tokio::test]
async fn approval_granted_by_expiry_is_consumable_before_the_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::starting_at(Timestamp::from_micros(0));
    let location = TestDatabase::in_folder(folder.path()).location();
    let store = Store::open_at(&location, Arc::new(clock.clone()), Box::new(|_| {})).unwrap();
    store.transact(insert_approval).await.unwrap();
    let used = || store.transact(|tx| approval::consume(tx, "a", "digest"));
    assert!(matches!(used().await, Err(StoreError::NotApproved { .. })));
    clock.advance(TTL);
    let consumed = used().await.unwrap();
    assert_eq!((consumed.consume_time.is_some(), consumed.revision), (true, 2));
    assert!(matches!(used().await, Err(StoreError::AlreadyConsumed { .. })));
}

fn insert_approval(tx: &mut dyn Tx) -> Result<(), StoreError> {
    let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
    let run = runhub_server::domain::run::Run::new(tx.next_key()?, "run".into(), draft, tx.now());
    runs::insert(tx, &run)?;
    let asked = domain::Approval {
        subject_digest: "digest".into(),
        on_expiry: domain::ExpiryPolicy::Approve,
        expire_time: Some(tx.now().plus(TTL)),
        ..domain::Approval::new(tx.next_key()?, "a".into(), (run.key, "run"), None, tx.now())
    };
    approval::add(tx, &asked, &system_event::approval_requested(&asked))
}
