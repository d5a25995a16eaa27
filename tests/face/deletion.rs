//! Deleting a run: all of it goes at once, and everybody who has to do with it hears of it.

use std::collections::BTreeSet;

use runhub_client::v1::*;
use runhub_client::{Client, Reason, Update};

use crate::support::calls::*;
use crate::support::dump::dump;
use crate::support::record::Watcher;
use crate::support::{TestServer, soon};

async fn delete(client: &Client, run_id: &str) {
    client.delete_run(DeleteRunRequest { run_id: run_id.into(), ..unset() }).await.unwrap();
}

/// A run with something in every table that can have something of it.
async fn full_run(client: &Client) -> (Run, Claim) {
    let run = new_run(client).await;
    let run_id = run.id.clone();
    let with_paths = TaskDraft { allowed_paths: vec!["src/*.rs".into()], ..keyed("a", &[]) };
    let tasks = add_tasks(client, &run_id, vec![with_paths, keyed("b", &["a"])]).await;
    let held = claim(client, &run_id).await.unwrap();
    let state = AgentState { run_id: run_id.clone(), role: "checker".into(), ..unset() };
    client.save_agent_state(SaveAgentStateRequest { state: Some(state), ..unset() }).await.unwrap();
    let task_id = Some(tasks[0].id.clone());
    let question =
        RequestApprovalRequest { run_id: run_id.clone(), task_id: task_id.clone(), title: "?".into(), ..unset() };
    client.request_approval(question).await.unwrap();
    let status = RunStatus::Running.into();
    client.create_checkpoint(CreateCheckpointRequest { run_id: run_id.clone(), status, ..unset() }).await.unwrap();
    let (kind, path) = ("log".into(), "a.log".into());
    client
        .create_artifact(CreateArtifactRequest { run_id: run_id.clone(), task_id, kind, path, ..unset() })
        .await
        .unwrap();
    let note = EventDraft { task_id: Some(tasks[1].id.clone()), ..event("note") };
    append(client, &run_id, vec![note]).await;
    (set_status(client, &run_id, RunStatus::Completed).await, held)
}

#[tokio::test]
async fn nothing_is_left_of_it_but_its_last_event() {
    let server = TestServer::start().await;
    let client = &server.client;
    let other = new_run(client).await;
    add_task(client, &other.id, TaskDraft { allowed_paths: vec!["docs".into()], ..draft("t") }).await;
    let rows = || dump(&server.db()).into_iter().filter(|row| !row.starts_with("counters")).collect::<BTreeSet<_>>();
    let before = rows();
    let (run, _) = full_run(client).await;
    let tables = |rows: &BTreeSet<String>| rows.iter().map(|row| row.split(':').next().unwrap().to_owned()).collect();
    let (in_all, has_rows): (BTreeSet<String>, usize) = (tables(&rows()), rows().len());
    assert!(in_all.len() >= 11 && has_rows > before.len() + 15, "{in_all:?}");

    delete(client, &run.id).await;
    let left: Vec<String> = rows().difference(&before).cloned().collect();
    assert!(left.len() == 1 && left[0].starts_with("events: "), "{left:?}");
    assert!(before.is_subset(&rows()), "of the other run nothing is gone");
    let of_all = log(client, "").await;
    let last = of_all.last().unwrap();
    assert_eq!((&last.run_id, last.kind.as_str(), last.source.as_str()), (&run.id, "run_deleted", "system"));
    assert_eq!(last.seq, 10);
    let payload = serde_json::json!({ "goal": "goal", "repoPath": "/repo", "status": "RUN_STATUS_COMPLETED" });
    assert_eq!(json(&last.payload), payload);
    assert_eq!(of_all.iter().filter(|event| event.run_id == run.id).count(), 1);

    let get = GetRunRequest { run_id: run.id.clone() };
    assert_eq!(reason(client.get_run(get).await), Reason::RunNotFound);
    let again = DeleteRunRequest { run_id: run.id.clone(), ..unset() };
    assert_eq!(reason(client.delete_run(again).await), Reason::RunNotFound);
    let list = ListEventsRequest { run_id: run.id, ..unset() };
    assert_eq!(reason(client.list_events(list).await), Reason::RunNotFound);
}

#[tokio::test]
async fn positions_go_on_after_it_and_its_last_event_outlives_a_restart() {
    let server = TestServer::start().await;
    let (run, _) = full_run(&server.client).await;
    delete(&server.client, &run.id).await;
    let last = log(&server.client, "").await.last().unwrap().clone();
    let server = server.restart().await;
    assert_eq!(log(&server.client, "").await, std::slice::from_ref(&last));
    let next = new_run(&server.client).await;
    assert_eq!(log(&server.client, &next.id).await[0].position, last.position + 1);
}

#[tokio::test]
async fn a_watcher_of_it_is_told_and_a_watcher_of_all_runs_gets_its_last_event() {
    let server = TestServer::start().await;
    server.keep_everything();
    let client = &server.client;
    let run = new_run(client).await;
    let watch = |run_id: &str| server.watch(SubscribeEventsRequest { run_id: run_id.into(), ..unset() });
    let (mut of_it, mut of_all) = (watch(&run.id), watch(""));
    for watcher in [&mut of_it, &mut of_all] {
        assert_eq!(watcher.next_event().await.kind, "run_created");
        assert!(matches!(watcher.next().await, Some(Ok(Update::CaughtUp(_)))));
    }
    // It ends at its run's end before it can be deleted: one that is reopened does not.
    set_status(client, &run.id, RunStatus::Failed).await;
    while !matches!(of_it.next().await.unwrap().unwrap(), Update::End(EndReason::RunEnded, _)) {}
    set_status(client, &run.id, RunStatus::Running).await;
    let request = SubscribeEventsRequest { run_id: run.id.clone(), kinds: vec!["never".into()], ..unset() };
    let mut of_it = server.watch(request);
    assert!(matches!(of_it.next().await, Some(Ok(Update::CaughtUp(_)))));
    end_and_delete_at_once(client, &run.id).await;
    let end = soon(of_it.next()).await.unwrap().unwrap();
    let mut last = of_all.next_event().await;
    while last.kind != "run_deleted" {
        last = of_all.next_event().await;
    }
    // Whichever of the two it came to see first.
    let Update::End(reason, position) = end else { panic!("{end:?}") };
    assert!(matches!(reason, EndReason::RunEnded | EndReason::RunDeleted) && position <= last.position);

    let from_the_start = watch("").next_event().await;
    assert_eq!(from_the_start, last, "in place of what it had not seen of it");
}

/// As fast as two calls can be.
async fn end_and_delete_at_once(client: &Client, run_id: &str) {
    let status = Some(RunStatus::Completed.into());
    let end = client.update_run(UpdateRunRequest { run_id: run_id.into(), status, ..unset() });
    let delete = client.delete_run(DeleteRunRequest { run_id: run_id.into(), ..unset() });
    let (ended, deleted) = tokio::join!(end, delete);
    ended.unwrap();
    if deleted.is_err() {
        client.delete_run(DeleteRunRequest { run_id: run_id.into(), ..unset() }).await.unwrap();
    }
}

/// A stream that its reader has not read yet, or not to the end.
#[tokio::test]
async fn a_watcher_that_is_behind_hears_of_it_in_place_of_the_rest() {
    let server = TestServer::start().await;
    server.keep_everything();
    let client = &server.client;
    let run = new_run(client).await;
    let payload = value(serde_json::json!("x".repeat(500_000)));
    for _ in 0..30 {
        append(client, &run.id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    set_status(client, &run.id, RunStatus::Completed).await;
    let request = SubscribeEventsRequest { run_id: run.id.clone(), ..unset() };
    let mut behind = Watcher::new(&server.connect().await, &server.db(), request);
    assert_eq!(behind.next_event().await.seq, 1);
    delete(client, &run.id).await;
    let mut seq = 1;
    loop {
        match soon(behind.next()).await.unwrap().unwrap() {
            Update::Event(event) => {
                assert_eq!(event.seq, seq + 1, "no gap before the end");
                seq = event.seq;
            }
            Update::End(reason, position) => {
                assert_eq!(reason, EndReason::RunDeleted);
                assert_eq!(position, log(client, "").await.last().unwrap().position);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(seq < 31, "it was behind");
    assert!(behind.next().await.is_none());
}

#[tokio::test]
async fn who_waits_for_something_of_it_hears_that_it_is_gone() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, held) = full_run(client).await;
    let approvals = client.list_approvals(ListApprovalsRequest { run_id: run.id.clone(), ..unset() }).await;
    let approval_id = approvals.unwrap().approvals.remove(0).id;
    let same_files = new_run(client).await;
    add_task(client, &same_files.id, TaskDraft { allowed_paths: vec!["src".into()], ..draft("t") }).await;
    let waiting = |client: &Client| {
        let (client, wait) = (client.clone(), seconds(60));
        let decision = WaitApprovalRequest { approval_id: approval_id.clone(), wait };
        let task = ClaimTaskRequest { wait, ..claim_request(&same_files.id, "next") };
        async move { tokio::join!(client.wait_approval(decision), client.claim_task(task)) }
    };
    let calls = tokio::spawn(waiting(client));
    server.until_approvals_wait(1).await;
    server.until_claims_wait(1).await;

    delete(client, &run.id).await;
    let (decision, claimed) = soon(calls).await.unwrap();
    assert_eq!(reason(decision), Reason::ApprovalNotFound);
    assert!(claimed.unwrap().claim.is_some(), "its paths are free");
    assert_eq!(beat(client, &held).await.state(), LeaseState::Lost);
    assert_eq!(reason(client.complete_task(completion(&held)).await), Reason::TaskNotFound);
}

#[tokio::test]
async fn an_answer_given_before_is_given_again_but_no_lease_of_it() {
    let server = TestServer::start().await;
    let client = &server.client;
    let request = CreateRunRequest { goal: "g".into(), repo_path: "/r".into(), request_id: "run".into(), ..unset() };
    let run = client.create_run(request.clone()).await.unwrap().run.unwrap();
    add_task(client, &run.id, draft("t")).await;
    let task = ClaimTaskRequest { request_id: "claim".into(), ..claim_request(&run.id, "agent") };
    client.claim_task(task.clone()).await.unwrap().claim.unwrap();
    set_status(client, &run.id, RunStatus::Completed).await;
    delete(client, &run.id).await;
    assert_eq!(client.create_run(request).await.unwrap().run.unwrap(), run);
    assert_eq!(reason(client.claim_task(task).await), Reason::StaleLease);
}

/// What the sweeper had found due is gone when it comes to act.
#[tokio::test]
async fn a_list_of_what_is_due_that_is_acted_on_late_finds_nothing() {
    use runhub_server::store::{Store, due};
    use runhub_server::sweeper;
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, _) = full_run(client).await;
    let expiring = new_run(client).await;
    let question =
        RequestApprovalRequest { run_id: expiring.id.clone(), title: "?".into(), ttl: seconds(1), ..unset() };
    client.request_approval(question).await.unwrap();
    set_status(client, &expiring.id, RunStatus::Completed).await;
    let clock = server.clock.clone();
    let folder = server.stop().await;
    let path = folder.path().join("runhub.db");
    let store = Store::open(&path, std::sync::Arc::new(clock.clone()), Box::new(|_| {})).unwrap();
    clock.advance(std::time::Duration::from_secs(3_600));
    use runhub_server::clock::Clock;
    let now = clock.now();
    let due = store.read(move |tx| due::find(tx, now, now)).await.unwrap();
    assert_eq!((due.leases.len(), due.approvals.len()), (1, 1));
    for id in [run.id, expiring.id] {
        store.transact(move |tx| runhub_server::actions::delete_run::delete(tx, &id, None)).await.unwrap();
    }
    let before = dump(&path);
    sweeper::act(&store, due, now).await.unwrap();
    assert_eq!(dump(&path), before);
}

/// A long poll of a run ends with it.
#[tokio::test]
async fn a_list_that_waits_hears_of_it() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(client).await;
    let last = set_status(client, &run.id, RunStatus::Completed).await;
    let after_position = Some(log(client, &last.id).await.last().unwrap().position);
    let request = ListEventsRequest { run_id: run.id.clone(), after_position, wait: seconds(60), ..unset() };
    let waiting = client.clone();
    let call = tokio::spawn(async move { waiting.list_events(request).await });
    server.until_somebody_listens().await;
    delete(client, &run.id).await;
    assert_eq!(reason(soon(call).await.unwrap()), Reason::RunNotFound);
}
