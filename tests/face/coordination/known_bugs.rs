//! Bugs of other projects, as tests. Each test names the project and its issue.

use std::sync::Arc;
use std::time::Duration;

use runhub_client::Reason;
use runhub_client::v1::*;
use runhub_server::clock::Clock;
use runhub_server::store::{Store, due};
use runhub_server::sweeper;

use crate::support::TestServer;
use crate::support::calls::*;
use crate::support::database::TestDatabase;

/// river 1302: the sweeper selects an expired task, the agent completes it, and the sweeper overwrites the completion.
#[tokio::test]
async fn completion_between_sweeper_read_and_write_stands() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![draft("completed"), draft("beating"), draft("silent")]).await;
    let mut claims = Vec::new();
    for _ in 0..3 {
        claims.push(claim_for(&server.client, &run.id, "agent", 60).await.unwrap());
    }
    let clock = server.clock.clone();
    let folder = server.stop().await;
    // Run the sweeper's steps by hand, while no server is running.
    let store =
        Store::open_at(&TestDatabase::in_folder(folder.path()).location(), Arc::new(clock.clone()), Box::new(|_| {}))
            .unwrap();
    clock.advance(Duration::from_secs(60));
    let now = clock.now();
    let due = store.read(move |tx| due::find(tx, now)).await.unwrap();
    assert_eq!(due.leases.len(), 3);
    store.close().await;
    drop(store);
    // Meanwhile one task is completed and another gets a heartbeat, at the same time of the same clock.
    let server = TestServer::start_in(folder, clock.clone()).await;
    complete(&server.client, &claims[0]).await;
    beat(&server.client, &claims[1]).await;
    let folder = server.stop().await;
    let silent = task_id(&claims[2]);
    make_due(&TestDatabase::in_folder(folder.path()), &silent);
    let store =
        Store::open_at(&TestDatabase::in_folder(folder.path()).location(), Arc::new(clock.clone()), Box::new(|_| {}))
            .unwrap();
    sweeper::process_due_rows(&store, due, now).await.unwrap();
    store.close().await;
    drop(store);
    let server = TestServer::start_in(folder, clock).await;
    let statuses = [
        get_task(&server.client, &task_id(&claims[0])).await.status(),
        get_task(&server.client, &task_id(&claims[1])).await.status(),
        get_task(&server.client, &silent).await.status(),
    ];
    assert_eq!(statuses, [TaskStatus::Completed, TaskStatus::InProgress, TaskStatus::Pending]);
}

/// Reverts the extension that the restart gave to the silent holder's lease.
fn make_due(db: &TestDatabase, task_id: &str) {
    db.execute(&format!("UPDATE tasks SET lease_expire_time = 0 WHERE id = '{task_id}'"));
    assert_eq!(db.query(&format!("SELECT lease_expire_time FROM tasks WHERE id = '{task_id}'")), [[Some("0".into())]]);
}

/// dbos 742: a recovery list that is read once and acted on later runs a job twice.
#[tokio::test]
async fn stale_list_of_expired_leases_takes_nothing_from_the_next_holder() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_task(&server.client, &run.id, draft("t")).await;
    let old = claim_for(&server.client, &run.id, "old", 60).await.unwrap();
    let clock = server.clock.clone();
    let folder = server.stop().await;
    clock.advance(Duration::from_secs(60));
    let now = clock.now();
    let store =
        Store::open_at(&TestDatabase::in_folder(folder.path()).location(), Arc::new(clock.clone()), Box::new(|_| {}))
            .unwrap();
    let due = store.read(move |tx| due::find(tx, now)).await.unwrap();
    sweeper::process_due_rows(&store, due.clone(), now).await.unwrap();
    store.close().await;
    drop(store);
    let server = TestServer::start_in(folder, clock.clone()).await;
    let new = claim_for(&server.client, &run.id, "new", 60).await.unwrap();
    assert_eq!((task_id(&new), new.attempt_number), (task_id(&old), 2));
    let folder = server.stop().await;
    let store =
        Store::open_at(&TestDatabase::in_folder(folder.path()).location(), Arc::new(clock.clone()), Box::new(|_| {}))
            .unwrap();
    sweeper::process_due_rows(&store, due, now).await.unwrap();
    store.close().await;
    drop(store);
    let server = TestServer::start_in(folder, clock).await;
    assert_eq!(get_task(&server.client, &task_id(&new)).await.status(), TaskStatus::InProgress);
    complete(&server.client, &new).await;
}

/// dbos 742 without a sweeper: an orchestrator that starts again requeues the tasks in progress.
#[tokio::test]
async fn task_requeued_on_a_restart_is_completed_once() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![draft("a"), draft("b")]).await;
    let old = claim(&server.client, &run.id).await.unwrap();
    let server = server.restart().await;
    let requeue = RequeueInProgressTasksRequest { run_id: run.id.clone(), ..unset() };
    assert_eq!(server.client.requeue_in_progress_tasks(requeue).await.unwrap().requeued_count, 1);
    let new = claim(&server.client, &run.id).await.unwrap();
    assert_eq!((task_id(&new), new.attempt_number), (task_id(&old), 2));
    assert_eq!(reason(server.client.complete_task(completion(&old)).await), Reason::StaleLease);
    complete(&server.client, &new).await;
    let completions = kinds(&server.client, &run.id).await.into_iter().filter(|kind| kind == "task_completed");
    assert_eq!(completions.count(), 1);
}

/// marcus 343: two holders both complete a task whose lease expired and which was claimed again.
#[tokio::test]
async fn only_one_of_two_holders_completes() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, draft("t")).await;
    let first = claim_for(client, &run.id, "first", 60).await.unwrap();
    server.clock.advance(Duration::from_secs(60));
    until_logged(client, &run.id, "lease_expired", 1).await;
    let second = claim_for(client, &run.id, "second", 60).await.unwrap();
    let both = [&first, &second].map(|claim| {
        let client = client.clone();
        let request = completion(claim);
        tokio::spawn(async move { client.complete_task(request).await })
    });
    let [first, second] = both;
    assert_eq!(reason(first.await.unwrap()), Reason::StaleLease);
    assert_eq!(second.await.unwrap().unwrap().task.unwrap().status(), TaskStatus::Completed);
    let seen = kinds(client, &run.id).await;
    assert_eq!(seen.iter().filter(|kind| *kind == "task_completed").count(), 1);
    assert_eq!(seen.iter().filter(|kind| *kind == "stale_write_rejected").count(), 1);
}

/// camunda 5925: the answer to a claim is lost, and the job stays claimed until its timeout.
#[tokio::test]
async fn lost_claim_is_found_by_its_request_id() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![draft("t"); 2]).await;
    let request = ClaimTaskRequest { request_id: "id".into(), ..claim_request(&run.id, "agent") };
    let lost = server.client.claim_task(request.clone()).await.unwrap();
    let server = server.restart().await;
    let found = server.client.claim_task(request).await.unwrap();
    assert_eq!(found, lost);
    complete(&server.client, &found.claim.unwrap()).await;
}

/// agent-teams-ai 618: an operator completes a task whose dependency is open.
#[tokio::test]
async fn operator_cannot_complete_a_task_with_an_open_dependency() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let tasks = add_tasks(client, &run.id, vec![keyed("a", &[]), keyed("b", &["a"])]).await;
    claim(client, &run.id).await.unwrap();
    let by_hand = CompleteTaskRequest { task_id: tasks[1].id.clone(), ..unset() };
    assert_eq!(reason(client.complete_task(by_hand).await), Reason::WrongStatus);
    assert_eq!(get_task(client, &tasks[1].id).await.status(), TaskStatus::Pending);
}

/// vibe-kanban: a pending approval is kept in memory and lost in a restart.
#[tokio::test]
async fn pending_approval_survives_a_restart() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let asked = request_approval(&server.client, &run.id, "d").await;
    let server = server.restart().await;
    let verdicts = vec![ApprovalVerdict::Pending.into()];
    let inbox = server.client.list_approvals(ListApprovalsRequest { verdicts, ..unset() }).await.unwrap();
    assert_eq!(inbox.approvals, std::slice::from_ref(&asked));
    decide(&server.client, &asked.id, ApprovalVerdict::Approved).await.unwrap();
}
