//! C6: every way into IN_PROGRESS and COMPLETED respects dependencies, and no task stays pending forever.

use runhub_client::v1::*;
use runhub_client::{Client, Reason};

use crate::support::TestServer;
use crate::support::calls::*;

async fn chain(client: &Client) -> (Run, Vec<Task>) {
    let run = new_run(client).await;
    let tasks = add_tasks(client, &run.id, vec![keyed("a", &[]), keyed("b", &["a"]), keyed("c", &["b"])]).await;
    (run, tasks)
}

#[tokio::test]
async fn dependents_are_blocked_with_an_abandoned_task_and_pending_once_it_is_requeued() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, tasks) = chain(client).await;
    abandon(client, &tasks[0].id).await;
    let blocked = get_task(client, &tasks[1].id).await;
    assert_eq!(
        (blocked.status(), blocked.blocker_signature.as_deref()),
        (TaskStatus::Blocked, Some("dependency_abandoned"))
    );
    assert_eq!(get_task(client, &tasks[2].id).await.status(), TaskStatus::Pending, "a task further down stays pending");
    assert_eq!(reason(requeue(client, &tasks[1].id).await), Reason::WrongStatus);
    requeue(client, &tasks[0].id).await.unwrap();
    let freed = get_task(client, &tasks[1].id).await;
    assert_eq!((freed.status(), freed.blocker_signature), (TaskStatus::Pending, None));
    assert_eq!(kinds(client, &run.id).await[2..], ["task_abandoned", "task_blocked", "task_requeued", "task_requeued"]);
    for _ in 0..3 {
        complete(client, &claim(client, &run.id).await.unwrap()).await;
    }
}

#[tokio::test]
async fn task_with_two_abandoned_dependencies_is_pending_once_both_are_requeued() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let tasks = add_tasks(client, &run.id, vec![keyed("a", &[]), keyed("b", &[]), keyed("c", &["a", "b"])]).await;
    abandon(client, &tasks[0].id).await;
    abandon(client, &tasks[1].id).await;
    requeue(client, &tasks[1].id).await.unwrap();
    assert_eq!(get_task(client, &tasks[2].id).await.status(), TaskStatus::Blocked);
    requeue(client, &tasks[0].id).await.unwrap();
    assert_eq!(get_task(client, &tasks[2].id).await.status(), TaskStatus::Pending);
}

/// Requeueing a task restores only the dependents that its abandonment had blocked.
#[tokio::test]
async fn task_blocked_for_another_reason_stays_blocked() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (_, tasks) = chain(client).await;
    let block = BlockTaskRequest { task_id: tasks[1].id.clone(), blocker_signature: Some("own".into()), ..unset() };
    client.block_task(block).await.unwrap();
    abandon(client, &tasks[0].id).await;
    requeue(client, &tasks[0].id).await.unwrap();
    assert_eq!(get_task(client, &tasks[1].id).await.blocker_signature.as_deref(), Some("own"));
}

/// The claim and the late heartbeat lead into IN_PROGRESS, the holder's and the operator's completion into COMPLETED.
#[tokio::test]
async fn open_dependency_prevents_claim_and_completion() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (run, tasks) = chain(client).await;
    let held = claim(client, &run.id).await.unwrap();
    assert_eq!(claim(client, &run.id).await, None);
    assert_eq!(claim(client, "").await, None);
    for task in &tasks[1..] {
        let by_hand = CompleteTaskRequest { task_id: task.id.clone(), ..unset() };
        assert_eq!(reason(client.complete_task(by_hand.clone()).await), Reason::WrongStatus);
        client.block_task(BlockTaskRequest { task_id: task.id.clone(), ..unset() }).await.unwrap();
        assert_eq!(reason(client.complete_task(by_hand).await), Reason::WrongStatus, "from BLOCKED");
        requeue(client, &task.id).await.unwrap();
    }
    complete(client, &held).await;
    assert_eq!(claim(client, &run.id).await.unwrap().task.unwrap().title, "b");
}
