//! C7: no two agents work on overlapping paths.

use runhub_client::Client;
use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

fn with_paths(paths: &[&str]) -> TaskDraft {
    let allowed_paths = paths.iter().map(|path| (*path).to_owned()).collect();
    TaskDraft { allowed_paths, ..draft(&format!("{paths:?}")) }
}

async fn title_of_claim(client: &Client, run_id: &str) -> Option<String> {
    claim(client, run_id).await.map(|claim| claim.task.unwrap().title)
}

#[tokio::test]
async fn tasks_with_overlapping_paths_are_never_in_progress_together() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let overlapping = [
        ("src/*.rs", "src/foo*"),
        ("**/t.rs", "src/**"),
        ("src/a*/x", "src/*b/x"),
        ("src", "src/deep/file.rs"),
        ("src/", "src"),
    ];
    for (one, other) in overlapping {
        add_tasks(client, &run.id, vec![with_paths(&["doc", one]), with_paths(&[other])]).await;
        let first = claim(client, &run.id).await.unwrap();
        assert_eq!(claim(client, &run.id).await, None, "{one} and {other}");
        complete(client, &first).await;
        complete(client, &claim(client, &run.id).await.unwrap()).await;
    }
}

#[tokio::test]
async fn tasks_with_disjoint_paths_are_claimed_together() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let drafts = vec![
        with_paths(&["src/*.rs"]),
        with_paths(&["src/*.md", "Src"]),
        with_paths(&[]),
        with_paths(&["src/a/*.rs"]),
        draft("none"),
    ];
    add_tasks(client, &run.id, drafts).await;
    for _ in 0..5 {
        assert!(claim(client, &run.id).await.is_some());
    }
}

#[tokio::test]
async fn brackets_are_literal() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_tasks(client, &run.id, vec![with_paths(&["app/[slug]/page.tsx"]), with_paths(&["app/s/page.tsx"])]).await;
    assert!(claim(client, &run.id).await.is_some());
    assert!(claim(client, &run.id).await.is_some(), "[slug] must not match s");
    add_tasks(client, &run.id, vec![with_paths(&["app/[slug]"])]).await;
    assert_eq!(claim(client, &run.id).await, None, "app/[slug] contains app/[slug]/page.tsx");
}

#[tokio::test]
async fn path_conflicts_span_runs_of_one_repository_only() {
    let server = TestServer::start().await;
    let client = &server.client;
    let here = new_run_in(client, "/repo").await;
    let same = new_run_in(client, "/repo").await;
    let elsewhere = new_run_in(client, "/repo/").await;
    for run in [&here, &same, &elsewhere] {
        add_task(client, &run.id, with_paths(&["src"])).await;
    }
    let held = claim(client, &here.id).await.unwrap();
    assert_eq!(claim(client, &same.id).await, None);
    assert!(claim(client, &elsewhere.id).await.is_some(), "repository paths are compared byte for byte");
    assert_eq!(claim(client, "").await, None, "a claim over all runs respects paths");
    complete(client, &held).await;
    assert_eq!(claim(client, "").await.unwrap().task.unwrap().run_id, same.id);
}

#[tokio::test]
async fn path_policy_label_turns_path_conflicts_off() {
    let server = TestServer::start().await;
    let client = &server.client;
    for (policy, at_once) in [("on", 1), ("off", 2)] {
        let labels = [("path_policy".to_owned(), policy.to_owned())].into();
        let request = CreateRunRequest { goal: "g".into(), repo_path: policy.into(), labels, ..unset() };
        let run = client.create_run(request).await.unwrap().run.unwrap();
        add_tasks(client, &run.id, vec![with_paths(&["src"]), with_paths(&["src"])]).await;
        let mut claimed = 0;
        while claim(client, &run.id).await.is_some() {
            claimed += 1;
        }
        assert_eq!(claimed, at_once, "path_policy {policy}");
    }
}

/// A run that ignores paths does not block other runs with its own.
#[tokio::test]
async fn run_with_path_policy_off_blocks_no_other_run() {
    let server = TestServer::start().await;
    let client = &server.client;
    let on = new_run(&server.client).await;
    let labels = [("path_policy".to_owned(), "off".to_owned())].into();
    let request = CreateRunRequest { goal: "g".into(), repo_path: on.repo_path.clone(), labels, ..unset() };
    let off = client.create_run(request).await.unwrap().run.unwrap();
    for run in [&off, &on, &off] {
        add_task(client, &run.id, with_paths(&["src"])).await;
        assert!(claim(client, &run.id).await.is_some());
    }
}

/// A task that conflicts does not delay the tasks behind it.
#[tokio::test]
async fn claimable_task_is_not_delayed_by_conflicting_tasks() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let urgent = TaskDraft { priority: 9, ..with_paths(&["src/main.rs"]) };
    add_tasks(client, &run.id, vec![with_paths(&["src/**"]), urgent.clone(), urgent, with_paths(&["doc"])]).await;
    assert_eq!(title_of_claim(client, &run.id).await.as_deref(), Some(r#"["src/main.rs"]"#));
    assert_eq!(title_of_claim(client, &run.id).await.as_deref(), Some(r#"["doc"]"#));
    assert_eq!(title_of_claim(client, &run.id).await, None);
}

/// A replan lets the holders continue, or abandons their tasks and frees their paths.
#[tokio::test]
async fn replan_frees_the_paths_of_abandoned_tasks() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    add_task(client, &run.id, with_paths(&["src"])).await;
    claim(client, &run.id).await.unwrap();
    let keep = InProgressPolicy::Keep.into();
    for (in_progress, free) in [(keep, false), (0, true)] {
        let run_id = run.id.clone();
        let tasks = vec![with_paths(&["src/a"])];
        client
            .replace_pending_tasks(ReplacePendingTasksRequest { run_id, tasks, in_progress, ..unset() })
            .await
            .unwrap();
        assert_eq!(claim(client, &run.id).await.is_some(), free);
    }
}
