//! ExplainTask: one reason for each obstacle.

use std::time::Duration;

use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

fn kinds_of(answer: &ExplainTaskResponse) -> Vec<ObstacleKind> {
    answer.reasons.iter().map(Obstacle::kind).collect()
}

#[tokio::test]
async fn claimable_task_has_no_obstacles() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    assert_eq!(explain(client, &task.id).await, ExplainTaskResponse { claimable: true, ..Default::default() });
}

#[tokio::test]
async fn held_or_completed_task_reports_its_status() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    let held = claim(client, &run.id).await.unwrap();
    let answer = explain(client, &task.id).await;
    assert_eq!((answer.claimable, kinds_of(&answer)), (false, vec![ObstacleKind::Status]));
    assert!(answer.reasons[0].detail.contains("held by agent"), "{answer:?}");
    assert_eq!(answer.reasons[0].time, held.lease_expire_time);
    complete(client, &held).await;
    let answer = explain(client, &task.id).await;
    assert_eq!((answer.claimable, kinds_of(&answer)), (false, vec![ObstacleKind::Status]));
}

#[tokio::test]
async fn every_obstacle_is_a_reason_that_names_it() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let with = |path: &str| TaskDraft { allowed_paths: vec!["doc".into(), path.into()], ..draft(path) };
    let holder = add_task(client, &run.id, with("src/*.rs")).await;
    let held = claim(client, &run.id).await.unwrap();
    let time = prost_types::Timestamp { seconds: 1_800_000_060, nanos: 0 };
    let stuck = TaskDraft {
        depends_on: vec!["up".into()],
        allowed_paths: vec!["lib".into(), "src/foo*".into()],
        required_capabilities: vec!["gpu".into()],
        not_before_time: Some(time),
        ..draft("stuck")
    };
    let tasks = add_tasks(client, &run.id, vec![keyed("up", &[]), stuck]).await;
    client.pause_run(PauseRunRequest { run_id: run.id.clone(), ..unset() }).await.unwrap();
    let answer = explain(client, &tasks[1].id).await;
    use ObstacleKind::{Capability, Dependency, Paths, RunPaused, Time};
    assert_eq!((answer.claimable, kinds_of(&answer)), (false, vec![RunPaused, Dependency, Time, Paths, Capability]));
    let [_, dependency, late, paths, capability] = &answer.reasons[..] else { panic!("{answer:?}") };
    assert_eq!(dependency.task_id.as_ref(), Some(&tasks[0].id));
    assert_eq!(late.time, Some(time));
    assert_eq!(paths.task_id.as_ref(), Some(&holder.id));
    assert_eq!((paths.path.as_deref(), paths.other_path.as_deref()), (Some("src/foo*"), Some("src/*.rs")));
    assert_eq!(paths.time, held.lease_expire_time);
    assert!(paths.detail.contains("held by agent") && capability.detail.contains("gpu"), "{answer:?}");
    // Remove all obstacles but the capability.
    client.resume_run(ResumeRunRequest { run_id: run.id.clone(), ..unset() }).await.unwrap();
    complete(client, &held).await;
    client.complete_task(CompleteTaskRequest { task_id: tasks[0].id.clone(), ..unset() }).await.unwrap();
    server.clock.advance(Duration::from_secs(60));
    let answer = explain(client, &tasks[1].id).await;
    assert_eq!(
        (answer.claimable, kinds_of(&answer)),
        (true, vec![Capability]),
        "an agent that has it can claim the task"
    );
}

/// Tasks further down stay pending, so the answer names the blocked task that holds them up.
#[tokio::test]
async fn blocked_indirect_dependency_is_named() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let drafts = vec![keyed("a", &[]), keyed("b", &["a"]), keyed("c", &["b"]), keyed("d", &["c"])];
    let tasks = add_tasks(client, &run.id, drafts).await;
    abandon(client, &tasks[0].id).await;
    let answer = explain(client, &tasks[3].id).await;
    let named: Vec<_> = answer.reasons.iter().map(|reason| reason.task_id.clone().unwrap()).collect();
    assert_eq!(named, [tasks[2].id.clone(), tasks[1].id.clone(), tasks[0].id.clone()]);
    let answer = explain(client, &tasks[1].id).await;
    assert_eq!(kinds_of(&answer), [ObstacleKind::Status, ObstacleKind::Dependency]);
    assert!(answer.reasons[0].detail.contains("dependency_abandoned"));
}

#[tokio::test]
async fn task_of_an_ended_run_is_not_claimable() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let task = add_task(client, &run.id, draft("t")).await;
    set_status(client, &run.id, RunStatus::Failed).await;
    let answer = explain(client, &task.id).await;
    assert_eq!((answer.claimable, kinds_of(&answer)), (false, vec![ObstacleKind::RunEnded]));
}

/// Two tasks, each with the longest legal `allowed_paths`, would keep the server busy for seconds. Such tasks count as
/// overlapping.
#[tokio::test]
async fn paths_that_need_too_much_work_count_as_overlapping() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    // The two sets match no common path, but only a complete comparison would show that.
    let longest =
        |letter: &str| (0..8).map(|number| format!("{number}{}?", format!("*{letter}").repeat(2_000))).collect();
    let with = |letter: &str| TaskDraft { allowed_paths: longest(letter), ..draft(letter) };
    let tasks = add_tasks(client, &run.id, vec![with("a"), with("b")]).await;
    claim(client, &run.id).await.unwrap();
    assert_eq!(claim(client, &run.id).await, None);
    let answer = explain(client, &tasks[1].id).await;
    assert_eq!((answer.is_cut, answer.claimable, kinds_of(&answer)), (true, false, vec![ObstacleKind::Paths]));
    assert_eq!(answer.reasons[0].task_id.as_ref(), Some(&tasks[0].id));
}

#[tokio::test]
async fn explanation_stops_after_5000_dependency_rows() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let mut before: Vec<String> = Vec::new();
    for number in 0..5 {
        let layer = (0..250).map(|at| TaskDraft { depends_on: before.clone(), ..draft(&format!("{number}-{at}")) });
        before = add_tasks(client, &run.id, layer.collect()).await.into_iter().map(|task| task.id).collect();
    }
    let last = add_task(client, &run.id, TaskDraft { depends_on: before, ..draft("last") }).await;
    let answer = explain(client, &last.id).await;
    assert!(answer.is_cut && !answer.claimable);
    assert_eq!(answer.reasons.len(), 250, "only direct dependencies are obstacles");
}
