//! Tasks and attempts.

use runhub_client::Reason;
use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

async fn statuses(server: &TestServer, run_id: &str) -> Vec<TaskStatus> {
    let request = ListTasksRequest { run_id: run_id.into(), ..unset() };
    server.client.list_tasks(request).await.unwrap().tasks.iter().map(Task::status).collect()
}

/// Tasks in progress are pending again. The event is written only if there were any.
#[tokio::test]
async fn requeue_in_progress_tasks() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_tasks(client, &run.id, vec![draft("a"), draft("b"), draft("c")]).await;
    let requeue = || async {
        let request = RequeueInProgressTasksRequest { run_id: run.id.clone(), ..unset() };
        client.requeue_in_progress_tasks(request).await.unwrap().requeued_count
    };
    assert_eq!(requeue().await, 0);
    assert!(!kinds(client, &run.id).await.contains(&"requeue_in_progress".to_owned()));

    claim(client, &run.id).await.unwrap();
    claim(client, &run.id).await.unwrap();
    assert_eq!(requeue().await, 2);
    assert_eq!(statuses(&server, &run.id).await, [TaskStatus::Pending; 3]);
    // The other event that the class wrote by itself, verbatim.
    let last = log(client, &run.id).await.pop().unwrap();
    assert_eq!((last.source.as_str(), last.kind.as_str()), ("system", "requeue_in_progress"));
    assert_eq!(last.message, "Requeued in-progress tasks on resume.");
    assert_eq!(json(&last.payload), serde_json::json!({ "changes": 2 }));
}

/// Pending and in-progress tasks are abandoned, completed and blocked tasks stay, and the new ones follow in order.
#[tokio::test]
async fn replace_pending_tasks() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let tasks = add_tasks(client, &run.id, ["a", "b", "c", "d"].map(draft).to_vec()).await;
    complete(client, &claim(client, &run.id).await.unwrap()).await;
    client.block_task(BlockTaskRequest { task_id: tasks[1].id.clone(), ..unset() }).await.unwrap();
    claim(client, &run.id).await.unwrap();
    let mut new = draft("e");
    new.objective = "o".into();
    new.acceptance_criteria = vec!["ac".into()];
    new.verification_steps = vec!["vs".into()];
    new.allowed_paths = vec!["src/".into()];
    let request = ReplacePendingTasksRequest { run_id: run.id.clone(), tasks: vec![new, draft("f")], ..unset() };
    let replaced = client.replace_pending_tasks(request).await.unwrap();
    assert_eq!((replaced.abandoned_count, replaced.plan_version), (2, 1));
    let task = &replaced.tasks[0];
    assert_eq!((task.objective.as_str(), task.attempt_count, task.status()), ("o", 0, TaskStatus::Pending));
    assert_eq!((&task.acceptance_criteria, &task.verification_steps), (&vec!["ac".into()], &vec!["vs".into()]));
    assert_eq!(task.allowed_paths, ["src/"]);
    assert_eq!((&task.implementation_summary, &task.blocker_signature), (&None, &None));
    use TaskStatus::{Abandoned, Blocked, Completed, Pending};
    assert_eq!(statuses(&server, &run.id).await, [Completed, Blocked, Abandoned, Abandoned, Pending, Pending]);
}

/// Lists in plan order. The class ordered by created_at, where all tasks of one plan tie.
#[tokio::test]
async fn list_tasks() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let titles: Vec<String> = (0..30).map(|at| format!("t{at}")).collect();
    add_tasks(client, &run.id, titles.iter().map(|title| draft(title)).collect()).await;
    complete(client, &claim(client, &run.id).await.unwrap()).await;
    let list = |statuses: Vec<i32>| {
        let request = ListTasksRequest { run_id: run.id.clone(), statuses, ..unset() };
        async { client.list_tasks(request).await.unwrap().tasks.into_iter().map(|task| task.title).collect::<Vec<_>>() }
    };
    assert_eq!(list(vec![]).await, titles);
    assert_eq!(list(vec![TaskStatus::Pending.into()]).await, titles[1..]);
    assert_eq!(list(vec![TaskStatus::Pending.into(), TaskStatus::Completed.into()]).await, titles);
    assert_eq!(list(vec![TaskStatus::Blocked.into()]).await, Vec::<String>::new());
}

#[tokio::test]
async fn get_task() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    assert_eq!(crate::support::calls::get_task(&server.client, &task.id).await, task);
    let missing = server.client.get_task(GetTaskRequest { task_id: "nope".into() }).await;
    assert_eq!(reason(missing), Reason::TaskNotFound);
}

/// Claims the first pending task in plan order and increments its attempts, or returns null. The class read and wrote
/// in two statements, so two processes could claim the same task. Here it is one step, with a token for the holder.
#[tokio::test]
async fn claim_next_pending_task() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    assert_eq!(claim(client, &run.id).await, None);
    let tasks = add_tasks(client, &run.id, vec![draft("a"), draft("b")]).await;
    let first = claim(client, &run.id).await.unwrap();
    let task = first.task.clone().unwrap();
    assert_eq!((task.id.as_str(), task.status(), task.attempt_count), (&*tasks[0].id, TaskStatus::InProgress, 1));
    assert_eq!((first.attempt_number, task.agent_id.as_deref()), (1, Some("agent")));
    let second = claim(client, &run.id).await.unwrap();
    assert_eq!(task_id(&second), tasks[1].id);
    assert_ne!(first.lease_token, second.lease_token);
    assert_eq!(claim(client, &run.id).await, None);
}

/// Sets the summary and clears the blocker_signature. The class completed any task. Here a leased task needs its token.
#[tokio::test]
async fn complete_task() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    let block = BlockTaskRequest { task_id: task.id.clone(), blocker_signature: Some("sig".into()), ..unset() };
    let blocked = client.block_task(block).await.unwrap().task.unwrap();
    assert_eq!(blocked.blocker_signature.as_deref(), Some("sig"));
    let request = CompleteTaskRequest { task_id: task.id.clone(), summary: "done".into(), ..unset() };
    let done = client.complete_task(request).await.unwrap().task.unwrap();
    assert_eq!((done.status(), done.implementation_summary.as_deref()), (TaskStatus::Completed, Some("done")));
    assert_eq!(done.blocker_signature, None);

    let task = add_task(client, &run.id, draft("held")).await;
    let held = claim(client, &run.id).await.unwrap();
    let without_token = CompleteTaskRequest { task_id: task.id, ..unset() };
    assert_eq!(reason(client.complete_task(without_token).await), Reason::LeaseRequired);
    assert_eq!(complete(client, &held).await.status(), TaskStatus::Completed);
}

/// Covers null and non-null summaries and signatures: an unset field is cleared.
#[tokio::test]
async fn abandon_task() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let tasks = add_tasks(client, &run.id, vec![draft("a"), draft("b")]).await;
    let summary = Some("why".to_owned());
    let blocker_signature = Some("sig".to_owned());
    let block = BlockTaskRequest { task_id: tasks[0].id.clone(), summary, blocker_signature, ..unset() };
    client.block_task(block).await.unwrap();
    let request = AbandonTaskRequest { task_id: tasks[0].id.clone(), ..unset() };
    let abandoned = client.abandon_task(request).await.unwrap().task.unwrap();
    assert_eq!(abandoned.status(), TaskStatus::Abandoned);
    assert_eq!((abandoned.implementation_summary, abandoned.blocker_signature), (None, None));
    let summary = Some("enough".to_owned());
    let request = AbandonTaskRequest { task_id: tasks[1].id.clone(), summary, ..unset() };
    let abandoned = client.abandon_task(request).await.unwrap().task.unwrap();
    assert_eq!(abandoned.implementation_summary.as_deref(), Some("enough"));
}

/// Covers null and non-null fields, as for abandoning.
#[tokio::test]
async fn block_task() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, draft("t")).await;
    let held = claim(client, &run.id).await.unwrap();
    let request = BlockTaskRequest {
        task_id: task_id(&held),
        lease_token: Some(held.lease_token.clone()),
        summary: Some("stuck".into()),
        blocker_signature: None,
        ..unset()
    };
    let blocked = client.block_task(request).await.unwrap().task.unwrap();
    assert_eq!((blocked.status(), blocked.implementation_summary.as_deref()), (TaskStatus::Blocked, Some("stuck")));
    assert_eq!((blocked.blocker_signature, blocked.agent_id, blocked.attempt_count), (None, None, 1));
}

async fn record(server: &TestServer, task: &Task, number: i32, status: AttemptStatus) -> TaskAttempt {
    let request = RecordTaskAttemptRequest {
        run_id: task.run_id.clone(),
        task_id: task.id.clone(),
        attempt_number: number,
        status: status.into(),
        summary: format!("try {number}"),
        blocker_signature: Some("sig".into()),
        result: value(serde_json::json!({ "n": number })),
        ..unset()
    };
    server.client.record_task_attempt(request).await.unwrap().attempt.unwrap()
}

/// Returns the newest, or null. The class ordered by created_at, where two attempts of one millisecond tie.
#[tokio::test]
async fn latest_task_attempt() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    let latest = || async {
        let request = GetLatestTaskAttemptRequest { task_id: task.id.clone() };
        server.client.get_latest_task_attempt(request).await.unwrap().attempt
    };
    assert_eq!(latest().await, None);
    record(&server, &task, 1, AttemptStatus::Failed).await;
    let second = record(&server, &task, 2, AttemptStatus::Completed).await;
    assert_eq!(latest().await, Some(second));
}

/// Stores the row as given and returns it. The class returned the latest row, which could be another one.
#[tokio::test]
async fn add_task_attempt() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    let attempt = record(&server, &task, 7, AttemptStatus::Blocked).await;
    assert_eq!((attempt.attempt_number, attempt.status()), (7, AttemptStatus::Blocked));
    assert_eq!((attempt.summary.as_str(), attempt.blocker_signature.as_deref()), ("try 7", Some("sig")));
    assert_eq!(json(&attempt.result), serde_json::json!({ "n": 7 }));
    let last = log(&server.client, &run.id).await.pop().unwrap();
    assert_eq!((last.kind.as_str(), last.task_id), ("attempt_recorded", Some(task.id)));
}

/// Returns the newest 12 of the run unless told otherwise, the oldest of them first.
#[tokio::test]
async fn list_recent_attempts() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    for number in 1..=15 {
        record(&server, &task, number, AttemptStatus::Failed).await;
    }
    let list = |limit: i32| {
        let request = ListTaskAttemptsRequest { run_id: run.id.clone(), limit, ..unset() };
        async { server.client.list_task_attempts(request).await.unwrap().attempts }
    };
    let numbers = |attempts: Vec<TaskAttempt>| attempts.iter().map(|a| a.attempt_number).collect::<Vec<_>>();
    assert_eq!(numbers(list(0).await), (4..=15).collect::<Vec<_>>());
    assert_eq!(numbers(list(3).await), [13, 14, 15]);
}
