//! C2: what an empty answer to a claim says, and how a claim skips tasks that it can't have.

use runhub_client::Client;
use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

async fn unclaimable(client: &Client, request: ClaimTaskRequest) -> Unclaimable {
    let answer = client.claim_task(request).await.unwrap();
    assert_eq!(answer.claim, None);
    answer.unclaimable.unwrap()
}

#[tokio::test]
async fn empty_answer_counts_the_obstacles() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    assert_eq!(unclaimable(client, claim_request(&run.id, "a")).await, unset());
    let paths = || vec!["src".to_owned()];
    add_task(client, &run.id, TaskDraft { allowed_paths: paths(), key: "held".into(), ..draft("held") }).await;
    claim(client, &run.id).await.unwrap();
    let not_before_time = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 });
    let tasks = vec![
        TaskDraft { allowed_paths: paths(), ..draft("paths") },
        TaskDraft { not_before_time, required_capabilities: vec!["gpu".into()], ..keyed("late", &[]) },
        keyed("b", &["late"]),
        TaskDraft { allowed_paths: paths(), ..keyed("c", &["b", "late"]) },
    ];
    add_tasks(client, &run.id, tasks).await;
    let expected = Unclaimable {
        pending: 4,
        waiting_on_dependency: 2,
        waiting_on_time: 1,
        waiting_on_paths: 2,
        missing_capability: 1,
        run_paused: 0,
    };
    assert_eq!(unclaimable(client, claim_request(&run.id, "a")).await, expected);
    assert_eq!(unclaimable(client, claim_request("", "a")).await, expected);
    client.pause_run(PauseRunRequest { run_id: run.id.clone(), ..unset() }).await.unwrap();
    let paused = Unclaimable { run_paused: 4, missing_capability: 0, ..expected };
    let able = ClaimTaskRequest { capabilities: vec!["gpu".into()], ..claim_request(&run.id, "a") };
    assert_eq!(unclaimable(client, able).await, paused);
    assert_eq!(client.claim_task(claim_request("", "a")).await.unwrap().unclaimable.unwrap().pending, 4);
}

#[tokio::test]
async fn empty_answer_counts_at_most_1000_tasks() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let first = add_task(client, &run.id, draft("first")).await;
    claim(client, &run.id).await.unwrap();
    for _ in 0..2 {
        let draft = TaskDraft { depends_on: vec![first.id.clone()], ..draft("t") };
        add_tasks(client, &run.id, vec![draft; 600]).await;
    }
    let not_before_time = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 });
    add_tasks(client, &run.id, vec![TaskDraft { not_before_time, priority: 1, ..draft("urgent") }; 100]).await;
    for run_id in [run.id.as_str(), ""] {
        let counted = unclaimable(client, claim_request(run_id, "a")).await;
        assert_eq!((counted.pending, counted.waiting_on_time, counted.waiting_on_dependency), (1_000, 100, 900));
    }
}

/// Hundreds of tasks behind one held path set are skipped as one.
#[tokio::test]
async fn tasks_with_the_same_conflict_are_skipped_together() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let with = |path: &str, priority| TaskDraft { allowed_paths: vec![path.into()], priority, ..draft(path) };
    add_tasks(client, &run.id, vec![with("src", 9); 500]).await;
    let not_before_time = Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 0 });
    let needs = || vec!["gpu".to_owned()];
    let nobodys = vec![
        TaskDraft { not_before_time, ..with("late", 8) },
        TaskDraft { not_before_time, priority: 8, ..draft("late, without paths") },
        TaskDraft { required_capabilities: needs(), ..with("special", 8) },
        TaskDraft { required_capabilities: needs(), priority: 8, ..draft("special, without paths") },
    ];
    add_tasks(client, &run.id, nobodys).await;
    add_tasks(client, &run.id, vec![with("doc", 1), with("lib", 2), draft("plain"), with("lib", 2)]).await;
    let mut order = Vec::new();
    while let Some(claim) = claim(client, &run.id).await {
        order.push(claim.task.unwrap().title);
    }
    assert_eq!(order, ["src", "lib", "doc", "plain"]);
}
