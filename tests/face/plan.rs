//! Plans: adding and replacing tasks, and dependencies.

use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

async fn replace(client: &runhub_client::Client, request: ReplacePendingTasksRequest) -> ReplacePendingTasksResponse {
    client.replace_pending_tasks(request).await.unwrap()
}

#[tokio::test]
async fn drafts_depend_on_each_other_by_key_and_on_tasks_by_id() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let first = add_task(client, &run.id, draft("first")).await;
    let tasks = add_tasks(client, &run.id, vec![keyed("b", &["c", &first.id, "c"]), keyed("c", &[])]).await;
    assert_eq!(tasks[0].depends_on, [tasks[1].id.clone(), first.id]);
    assert_eq!((tasks[0].ordinal, tasks[1].ordinal), (2, 3));
}

#[tokio::test]
async fn task_that_depends_on_a_completed_task_is_claimable_at_once() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let first = add_task(client, &run.id, draft("first")).await;
    complete(client, &claim(client, &run.id).await.unwrap()).await;
    let next = add_task(client, &run.id, keyed("next", &[&first.id])).await;
    assert_eq!(task_id(&claim(client, &run.id).await.unwrap()), next.id);
}

#[tokio::test]
async fn replan_ends_live_claims_and_logs_each_task() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let tasks = add_tasks(client, &run.id, vec![draft("held"), draft("pending")]).await;
    let held = claim(client, &run.id).await.unwrap();
    let request = ReplacePendingTasksRequest { run_id: run.id.clone(), tasks: vec![draft("new")], ..unset() };
    let replaced = replace(client, request).await;
    assert_eq!((replaced.abandoned_count, replaced.plan_version, replaced.tasks[0].plan_version), (2, 1, 1));
    let late = client.complete_task(completion(&held)).await;
    assert_eq!(reason(late), runhub_client::Reason::StaleLease);
    let log = log(client, &run.id).await;
    let logged: Vec<_> = log.iter().skip(3).map(|event| (event.kind.as_str(), event.task_id.clone())).collect();
    let held = Some(tasks[0].id.clone());
    let pending = Some(tasks[1].id.clone());
    assert_eq!(logged[0], ("plan_replaced", None));
    assert!(logged.contains(&("task_abandoned", held.clone())) && logged.contains(&("task_abandoned", pending)));
    assert_eq!(logged[3], ("stale_write_rejected", held));
    let run = get_run(client, &run.id).await;
    assert_eq!((run.plan_version, run.replan_count), (1, 0));
}

#[tokio::test]
async fn replan_can_keep_tasks_in_progress() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_tasks(client, &run.id, vec![draft("held"), draft("pending")]).await;
    let held = claim(client, &run.id).await.unwrap();
    let in_progress = InProgressPolicy::Keep.into();
    let on_held = keyed("new", &[&task_id(&held)]);
    let request = ReplacePendingTasksRequest { run_id: run.id.clone(), tasks: vec![on_held], in_progress, ..unset() };
    assert_eq!(replace(client, request).await.abandoned_count, 1);
    assert_eq!(claim(client, &run.id).await, None);
    complete(client, &held).await;
    assert_eq!(claim(client, &run.id).await.unwrap().task.unwrap().title, "new");
}

#[tokio::test]
async fn one_of_several_concurrent_planners_wins() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let request = |title: &str| ReplacePendingTasksRequest {
        run_id: run.id.clone(),
        tasks: vec![draft(title)],
        expected_plan_version: Some(0),
        ..unset()
    };
    let calls = ["first", "second", "third"].map(|title| {
        let client = client.clone();
        let request = request(title);
        tokio::spawn(async move { client.replace_pending_tasks(request).await })
    });
    let mut won = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(replaced) => {
                assert_eq!(replaced.plan_version, 1);
                won += 1;
            }
            refused => assert_eq!(reason(refused), runhub_client::Reason::PlanVersionMismatch),
        }
    }
    assert_eq!(won, 1);
}

/// A dependent of an abandoned task would wait forever, so it is blocked at once, with the reason. Tasks further down
/// stay pending.
#[tokio::test]
async fn dependents_of_an_abandoned_task_are_blocked() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let drafts = vec![keyed("a", &[]), keyed("b", &["a"]), keyed("c", &["b"]), keyed("other", &[])];
    let tasks = add_tasks(client, &run.id, drafts).await;
    client.abandon_task(AbandonTaskRequest { task_id: tasks[0].id.clone(), ..unset() }).await.unwrap();
    let dependent = get_task(client, &tasks[1].id).await;
    assert_eq!(dependent.status(), TaskStatus::Blocked);
    assert_eq!(dependent.blocker_signature.as_deref(), Some("dependency_abandoned"));
    assert_eq!(get_task(client, &tasks[2].id).await.status(), TaskStatus::Pending);
    let last = log(client, &run.id).await.pop().unwrap();
    assert_eq!((last.kind.as_str(), last.task_id.as_deref()), ("task_blocked", Some(&*tasks[1].id)));
    assert_eq!(claim(client, &run.id).await.unwrap().task.unwrap().title, "other");
}

/// The server refuses a plan whose answer exceeds the client's message limit: ids are longer than the keys they
/// replace.
#[tokio::test]
async fn plan_with_too_large_an_answer_is_refused() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let keys: Vec<String> = (0..256).map(|at| format!("{at:x}")).collect();
    let mut tasks: Vec<TaskDraft> = keys.iter().map(|key| keyed(key, &[])).collect();
    tasks.extend((0..700).map(|_| TaskDraft { depends_on: keys.clone(), ..draft("t") }));
    let request = AddTasksRequest { run_id: run.id.clone(), tasks, ..unset() };
    assert_eq!(reason(client.add_tasks(request).await), runhub_client::Reason::InvalidField);
    assert_eq!(kinds(client, &run.id).await, ["run_created"]);
}

#[tokio::test]
async fn filtered_task_pages_are_in_plan_order() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let tasks = add_tasks(client, &run.id, vec![draft("t"); 30]).await;
    for (at, task) in tasks.iter().enumerate() {
        let task_id = task.id.clone();
        match at % 5 {
            0 => drop(client.block_task(BlockTaskRequest { task_id, ..unset() }).await.unwrap()),
            1 | 2 => drop(client.complete_task(CompleteTaskRequest { task_id, ..unset() }).await.unwrap()),
            _ => {}
        }
    }
    for page_size in [1, 4, 7, 100] {
        let statuses = [TaskStatus::Completed, TaskStatus::Blocked, TaskStatus::Completed].map(i32::from).to_vec();
        let mut request = ListTasksRequest { run_id: run.id.clone(), statuses, page_size, ..unset() };
        let mut ordinals = Vec::new();
        loop {
            let page = client.list_tasks(request.clone()).await.unwrap();
            assert!(page.tasks.len() <= page_size as usize);
            ordinals.extend(page.tasks.iter().map(|task| task.ordinal));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(ordinals, (1..=30).filter(|at| (at - 1) % 5 < 3).collect::<Vec<_>>(), "pages of {page_size}");
    }
}

#[tokio::test]
async fn adding_no_tasks_changes_nothing_and_an_empty_replan_is_a_plan() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    assert_eq!(add_tasks(client, &run.id, vec![]).await, []);
    assert_eq!(kinds(client, &run.id).await, ["run_created"]);
    let replaced = replace(client, ReplacePendingTasksRequest { run_id: run.id.clone(), ..unset() }).await;
    assert_eq!((replaced.abandoned_count, replaced.plan_version), (0, 1));
    assert_eq!(kinds(client, &run.id).await, ["run_created", "plan_replaced"]);
}
