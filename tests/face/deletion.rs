//! Deleting a run removes all of it at once, and every watcher and waiting call learns of it.

use std::collections::BTreeSet;

use runhub_client::v1::*;
use runhub_client::{Client, Reason, Update};

use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::dump::dump;
use crate::support::record::Watcher;
use crate::support::{TestServer, soon, until};

async fn delete(client: &Client, run_id: &str) {
    client.delete_run(DeleteRunRequest { run_id: run_id.into(), ..unset() }).await.unwrap();
}

/// Creates a run with a row in every table that can hold rows of a run.
async fn full_run(client: &Client) -> (Run, Claim) {
    let run = new_run(client).await;
    let run_id = run.id.clone();
    let with_paths = TaskDraft { allowed_paths: vec!["src/*.rs".into()], ..keyed("a", &[]) };
    let tasks = add_tasks(client, &run_id, vec![with_paths, keyed("b", &["a"])]).await;
    let held = claim(client, &run_id).await.unwrap();
    let state = AgentState { run_id: run_id.clone(), role: "checker".into(), ..unset() };
    client.save_agent_state(SaveAgentStateRequest { state: Some(state), ..unset() }).await.unwrap();
    let task_id = Some(tasks[0].id.clone());
    let approval =
        RequestApprovalRequest { run_id: run_id.clone(), task_id: task_id.clone(), title: "?".into(), ..unset() };
    client.request_approval(approval).await.unwrap();
    let status = RunStatus::Running.into();
    client.create_checkpoint(CreateCheckpointRequest { run_id: run_id.clone(), status, ..unset() }).await.unwrap();
    let kind = "log".into();
    let path = "a.log".into();
    client
        .create_artifact(CreateArtifactRequest { run_id: run_id.clone(), task_id, kind, path, ..unset() })
        .await
        .unwrap();
    let note = EventDraft { task_id: Some(tasks[1].id.clone()), ..event("note") };
    append(client, &run_id, vec![note]).await;
    (set_status(client, &run_id, RunStatus::Completed).await, held)
}

#[tokio::test]
async fn deleted_run_leaves_only_its_run_deleted_event() {
    let server = TestServer::start().await;
    let client = &server.client;
    let other = new_run(client).await;
    add_task(client, &other.id, TaskDraft { allowed_paths: vec!["docs".into()], ..draft("t") }).await;
    let rows = || dump(server.db()).into_iter().filter(|row| !row.starts_with("counters")).collect::<BTreeSet<_>>();
    let before = rows();
    let (run, _) = full_run(client).await;
    let tables = |rows: &BTreeSet<String>| rows.iter().map(|row| row.split(':').next().unwrap().to_owned()).collect();
    let has_rows = rows().len();
    let in_all: BTreeSet<String> = tables(&rows());
    assert!(in_all.len() >= 11 && has_rows > before.len() + 15, "{in_all:?}");

    delete(client, &run.id).await;
    // The server keeps the path set of a task that was leased at the deletion until the next start.
    let is_left = |row: &&String| !row.starts_with("path_sets: ");
    let left: Vec<String> = rows().difference(&before).filter(is_left).cloned().collect();
    assert!(left.len() == 1 && left[0].starts_with("events: "), "{left:?}");
    assert!(before.is_subset(&rows()), "the other run must keep all its rows");
    let all_events = log(client, "").await;
    let last = all_events.last().unwrap();
    assert_eq!((&last.run_id, last.kind.as_str(), last.source.as_str()), (&run.id, "run_deleted", "system"));
    assert_eq!(last.seq, 10);
    let payload = serde_json::json!({ "goal": "goal", "repoPath": "/repo", "status": "RUN_STATUS_COMPLETED" });
    assert_eq!(json(&last.payload), payload);
    assert_eq!(all_events.iter().filter(|event| event.run_id == run.id).count(), 1);

    let get = GetRunRequest { run_id: run.id.clone() };
    assert_eq!(reason(client.get_run(get).await), Reason::RunNotFound);
    let again = DeleteRunRequest { run_id: run.id.clone(), ..unset() };
    assert_eq!(reason(client.delete_run(again).await), Reason::RunNotFound);
    let list = ListEventsRequest { run_id: run.id, ..unset() };
    assert_eq!(reason(client.list_events(list).await), Reason::RunNotFound);
}

#[tokio::test]
async fn run_deleted_event_survives_a_restart_and_positions_continue() {
    let server = TestServer::start().await;
    let (run, _) = full_run(&server.client).await;
    delete(&server.client, &run.id).await;
    let last = log(&server.client, "").await.last().unwrap().clone();
    let server = server.restart().await;
    assert!(
        dump(server.db()).iter().all(|row| !row.starts_with("path_sets: ")),
        "the restart removes unused path sets"
    );
    assert_eq!(log(&server.client, "").await, std::slice::from_ref(&last));
    let next = new_run(&server.client).await;
    assert_eq!(log(&server.client, &next.id).await[0].position, last.position + 1);
}

#[tokio::test]
async fn run_watcher_gets_an_end_and_all_runs_watcher_gets_run_deleted() {
    let server = TestServer::start_archiving(None).await;
    let client = &server.client;
    let run = new_run(client).await;
    let watch = |run_id: &str| server.watch(SubscribeEventsRequest { run_id: run_id.into(), ..unset() });
    let mut run_watcher = watch(&run.id);
    let mut all_watcher = watch("");
    for watcher in [&mut run_watcher, &mut all_watcher] {
        assert_eq!(watcher.next_event().await.kind, "run_created");
        assert!(matches!(watcher.next().await, Some(Ok(Update::CaughtUp(_)))));
    }
    // A run's stream ends with the run, which is before the run can be deleted. Reopen the run to watch it again.
    set_status(client, &run.id, RunStatus::Failed).await;
    while !matches!(run_watcher.next().await.unwrap().unwrap(), Update::End(EndReason::RunEnded, _)) {}
    set_status(client, &run.id, RunStatus::Running).await;
    let request = SubscribeEventsRequest { run_id: run.id.clone(), kinds: vec!["never".into()], ..unset() };
    let mut run_watcher = server.watch(request);
    assert!(matches!(run_watcher.next().await, Some(Ok(Update::CaughtUp(_)))));
    end_and_delete_concurrently(client, &run.id).await;
    let end = soon(run_watcher.next()).await.unwrap().unwrap();
    let mut last = all_watcher.next_event().await;
    while last.kind != "run_deleted" {
        last = all_watcher.next_event().await;
    }
    // The stream may see the end of the run or its deletion first.
    let Update::End(reason, position) = end else { panic!("{end:?}") };
    assert!(matches!(reason, EndReason::RunEnded | EndReason::RunDeleted) && position <= last.position);

    let from_the_start = watch("").next_event().await;
    assert_eq!(from_the_start, last, "run_deleted must stand in for the removed events");
}

/// Ends and deletes a run with two concurrent calls.
async fn end_and_delete_concurrently(client: &Client, run_id: &str) {
    let status = Some(RunStatus::Completed.into());
    let end = client.update_run(UpdateRunRequest { run_id: run_id.into(), status, ..unset() });
    let delete = client.delete_run(DeleteRunRequest { run_id: run_id.into(), ..unset() });
    let (ended, deleted) = tokio::join!(end, delete);
    ended.unwrap();
    if deleted.is_err() {
        client.delete_run(DeleteRunRequest { run_id: run_id.into(), ..unset() }).await.unwrap();
    }
}

/// The watcher has not read its stream to the end when the run is deleted.
#[tokio::test]
async fn lagging_watcher_gets_the_end_instead_of_unread_events() {
    let server = TestServer::start_archiving(None).await;
    let client = &server.client;
    let run = new_run(client).await;
    let payload = value(serde_json::json!("x".repeat(500_000)));
    for _ in 0..30 {
        append(client, &run.id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    set_status(client, &run.id, RunStatus::Completed).await;
    let request = SubscribeEventsRequest { run_id: run.id.clone(), ..unset() };
    let mut behind = Watcher::new(&server.connect().await, server.db(), request);
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
    assert!(seq < 31, "the watcher must have been behind");
    assert!(behind.next().await.is_none());
}

#[tokio::test]
async fn waiting_calls_end_when_the_run_is_deleted() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, held) = full_run(client).await;
    let approvals = client.list_approvals(ListApprovalsRequest { run_id: run.id.clone(), ..unset() }).await;
    let approval_id = approvals.unwrap().approvals.remove(0).id;
    let same_files = new_run(client).await;
    add_task(client, &same_files.id, TaskDraft { allowed_paths: vec!["src".into()], ..draft("t") }).await;
    let waiting = |client: &Client| {
        let client = client.clone();
        let wait = seconds(60);
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
    assert!(claimed.unwrap().claim.is_some(), "the paths of the deleted run must be free");
    assert_eq!(beat(client, &held).await.state(), LeaseState::Lost);
    assert_eq!(reason(client.complete_task(completion(&held)).await), Reason::TaskNotFound);
}

#[tokio::test]
async fn repeated_request_gets_its_answer_but_no_lease_of_a_deleted_run() {
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

/// The sweeper acts on a list of due leases and approvals whose runs have been deleted meanwhile.
#[tokio::test]
async fn stale_due_list_changes_nothing_after_a_deletion() {
    use runhub_server::store::{Store, due};
    use runhub_server::sweeper;
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, _) = full_run(client).await;
    let expiring = new_run(client).await;
    let approval =
        RequestApprovalRequest { run_id: expiring.id.clone(), title: "?".into(), ttl: seconds(1), ..unset() };
    client.request_approval(approval).await.unwrap();
    set_status(client, &expiring.id, RunStatus::Completed).await;
    let clock = server.clock.clone();
    let folder = server.stop().await;
    let db = TestDatabase::in_folder(folder.path());
    let store = Store::open_at(&db.location(), std::sync::Arc::new(clock.clone()), Box::new(|_| {})).unwrap();
    clock.advance(std::time::Duration::from_secs(3_600));
    use runhub_server::clock::Clock;
    let now = clock.now();
    let due = store.read(move |tx| due::find(tx, now)).await.unwrap();
    assert_eq!((due.leases.len(), due.approvals.len()), (1, 1));
    for id in [run.id, expiring.id] {
        store.transact(move |tx| runhub_server::actions::deletion::delete(tx, &id, None)).await.unwrap();
    }
    let before = dump(&db);
    sweeper::process_due_rows(&store, due, now).await.unwrap();
    assert_eq!(dump(&db), before);
}

/// A long poll on a run ends when the run is deleted.
#[tokio::test]
async fn waiting_list_ends_when_the_run_is_deleted() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(client).await;
    let last = set_status(client, &run.id, RunStatus::Completed).await;
    let after_position = Some(log(client, &last.id).await.last().unwrap().position);
    let request = ListEventsRequest { run_id: run.id.clone(), after_position, wait: seconds(60), ..unset() };
    let waiting = client.clone();
    let call = tokio::spawn(async move { waiting.list_events(request).await });
    server.until_reader_waits().await;
    delete(client, &run.id).await;
    assert_eq!(reason(soon(call).await.unwrap()), Reason::RunNotFound);
}

/// The lease on a path ends and the run is deleted between two claims.
#[tokio::test]
async fn paths_are_free_if_their_run_is_deleted_after_the_lease_ended() {
    let server = TestServer::start().await;
    let client = &server.client;
    let with = |path: &str| TaskDraft { allowed_paths: vec![path.into()], ..draft(path) };
    let [holding, waiting] = [new_run(client).await, new_run(client).await];
    add_task(client, &holding.id, with("src")).await;
    add_task(client, &waiting.id, with("src/a")).await;
    let held = claim(client, &holding.id).await.unwrap();
    assert_eq!(claim(client, &waiting.id).await, None);
    complete(client, &held).await;
    let update = UpdateRunRequest { run_id: holding.id.clone(), status: Some(RunStatus::Completed.into()), ..unset() };
    client.update_run(update).await.unwrap();
    delete(client, &holding.id).await;
    assert!(claim(client, &waiting.id).await.is_some(), "the path src/a must be free");
}

/// More tasks than the server deletes before the response (1,000).
const MANY_TASKS: usize = 2_500;

/// Creates an ended run with a row in every table, many tasks and a leased task.
async fn large_run(client: &Client) -> (Run, Claim) {
    let (run, held) = full_run(client).await;
    set_status(client, &run.id, RunStatus::Running).await;
    for _ in 0..MANY_TASKS / 500 {
        let drafts = vec![TaskDraft { allowed_paths: vec!["docs".into()], ..draft("t") }; 500];
        add_tasks(client, &run.id, drafts).await;
    }
    (set_status(client, &run.id, RunStatus::Completed).await, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn large_run_is_invisible_at_once_and_deleted_in_parts() {
    let server = TestServer::start_archiving(None).await;
    let client = &server.client;
    let other = new_run(client).await;
    let waiting = new_run(client).await;
    add_task(client, &waiting.id, TaskDraft { allowed_paths: vec!["src".into()], ..draft("t") }).await;
    let (run, held) = large_run(client).await;
    let tasks = client.list_tasks(ListTasksRequest { run_id: run.id.clone(), ..unset() }).await.unwrap().tasks;
    let approvals = client.list_approvals(ListApprovalsRequest { run_id: run.id.clone(), ..unset() }).await;
    let approval_id = approvals.unwrap().approvals.remove(0).id;
    let mut all = server.watch(SubscribeEventsRequest { start: SubscribeStart::FromNow.into(), ..unset() });
    assert!(matches!(all.next().await, Some(Ok(Update::CaughtUp(_)))));
    let mut of_run =
        server.watch(SubscribeEventsRequest { run_id: run.id.clone(), kinds: vec!["never".into()], ..unset() });
    assert!(matches!(of_run.next().await, Some(Ok(Update::CaughtUp(_)))));

    delete(client, &run.id).await;
    assert_eq!(reason(client.get_run(GetRunRequest { run_id: run.id.clone() }).await), Reason::RunNotFound);
    let again = DeleteRunRequest { run_id: run.id.clone(), ..unset() };
    assert_eq!(reason(client.delete_run(again).await), Reason::RunNotFound);
    let list = ListEventsRequest { run_id: run.id.clone(), ..unset() };
    assert_eq!(reason(client.list_events(list).await), Reason::RunNotFound);
    let get = GetTaskRequest { task_id: tasks[99].id.clone() };
    assert_eq!(reason(client.get_task(get).await), Reason::TaskNotFound);
    assert_eq!(reason(client.get_approval(GetApprovalRequest { approval_id }).await), Reason::ApprovalNotFound);
    assert_eq!(beat(client, &held).await.state(), LeaseState::Lost);
    assert_eq!(reason(client.complete_task(completion(&held)).await), Reason::TaskNotFound);
    assert!(claim(client, &waiting.id).await.is_some(), "the paths of the deleted run must be free");
    let runs = client.list_runs(ListRunsRequest::default()).await.unwrap().runs;
    assert_eq!(runs.iter().map(|run| &run.id).collect::<Vec<_>>(), [&waiting.id, &other.id]);

    let mut end = soon(of_run.next()).await.unwrap().unwrap();
    while matches!(end, Update::Bookmark(_)) {
        end = soon(of_run.next()).await.unwrap().unwrap();
    }
    let Update::End(end, _) = end else { panic!("{end:?}") };
    assert!(matches!(end, EndReason::RunDeleted | EndReason::RunEnded), "{end:?}");
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "run_deleted") {
        let event = all.next_event().await;
        if event.run_id == run.id {
            kinds.push(event.kind);
        }
    }
    assert_eq!(kinds.last().unwrap(), "run_deleted");
    assert!(kinds.len() <= 2, "{kinds:?}");
    let left = log(client, "").await;
    assert_eq!(left.iter().filter(|event| event.run_id == run.id).count(), 1, "only run_deleted remains");
    let rows = dump(server.db());
    assert!(!rows.iter().any(|row| row.starts_with("deleted_runs: ")), "the deletion is complete");
    assert_eq!(rows.iter().filter(|row| row.starts_with("tasks: ")).count(), 1);
}

/// Between the answer and the end of the deletion, no read shows the run. A restart continues the deletion.
#[tokio::test(flavor = "multi_thread")]
async fn deletion_in_parts_continues_after_a_restart() {
    use runhub_server::actions::deletion;
    let server = TestServer::start().await;
    let other = new_run(&server.client).await;
    let others = log(&server.client, "").await;
    let (run, _) = large_run(&server.client).await;
    let clock = server.clock.clone();
    let folder = server.stop().await;
    let store = runhub_server::store::Store::open_at(
        &TestDatabase::in_folder(folder.path()).location(),
        std::sync::Arc::new(clock.clone()),
        Box::new(|_| {}),
    )
    .unwrap();
    let run_id = run.id.clone();
    store.transact(move |tx| deletion::delete(tx, &run_id, None)).await.unwrap();
    let now = runhub_server::clock::Clock::now(&clock);
    let due = store.read(move |tx| runhub_server::store::due::find(tx, now)).await.unwrap();
    assert_eq!((due.deletion.is_some(), due.leases.len(), due.approvals.len()), (true, 0, 0));
    let key = due.deletion.unwrap();
    store.transact(move |tx| deletion::continue_deletion(tx, key)).await.unwrap();
    let scan = runhub_server::store::events::Scan::default();
    let limit = runhub_server::store::Limit { rows: 1_000, bytes: usize::MAX };
    let seen = store.read(move |tx| runhub_server::store::events::scan(tx, &scan, limit)).await.unwrap().events;
    let seen: Vec<_> = seen.iter().map(|event| (event.run_id.as_str(), event.kind.as_str())).collect();
    assert_eq!(seen, [(other.id.as_str(), "run_created"), (run.id.as_str(), "run_delete_requested")]);
    store.close().await;
    drop(store);

    let server = TestServer::start_in(folder, clock).await;
    until(|| async { log(&server.client, "").await.last().unwrap().kind == "run_deleted" }).await;
    let left = log(&server.client, "").await;
    assert_eq!(left[..1], others);
    assert_eq!(left.len(), 2);
    assert_eq!(reason(server.client.get_run(GetRunRequest { run_id: run.id }).await), Reason::RunNotFound);
}
