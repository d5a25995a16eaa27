//! C7: no two agents on overlapping paths.

use runhub_client::Client;
use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

fn with(paths: &[&str]) -> TaskDraft {
    let allowed_paths = paths.iter().map(|path| (*path).to_owned()).collect();
    TaskDraft { allowed_paths, ..draft(&format!("{paths:?}")) }
}

async fn title_of_claim(client: &Client, run_id: &str) -> Option<String> {
    claim(client, run_id).await.map(|claim| claim.task.unwrap().title)
}

#[tokio::test]
async fn tasks_with_overlapping_paths_are_never_in_progress_together() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let overlapping = [
        ("src/*.rs", "src/foo*"),
        ("**/t.rs", "src/**"),
        ("src/a*/x", "src/*b/x"),
        ("src", "src/deep/file.rs"),
        ("src/", "src"),
    ];
    for (one, other) in overlapping {
        add_tasks(client, &run.id, vec![with(&["doc", one]), with(&[other])]).await;
        let first = claim(client, &run.id).await.unwrap();
        assert_eq!(claim(client, &run.id).await, None, "{one} and {other}");
        complete(client, &first).await;
        complete(client, &claim(client, &run.id).await.unwrap()).await;
    }
}

#[tokio::test]
async fn tasks_whose_paths_are_apart_are_given_out_together() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let drafts = vec![with(&["src/*.rs"]), with(&["src/*.md", "Src"]), with(&[]), with(&["src/a/*.rs"]), draft("none")];
    add_tasks(client, &run.id, drafts).await;
    for _ in 0..5 {
        assert!(claim(client, &run.id).await.is_some());
    }
}

#[tokio::test]
async fn paths_hold_between_runs_of_the_same_repository_only() {
    let server = TestServer::start().await;
    let client = &server.client;
    let (here, same) = (new_run_in(client, "/repo").await, new_run_in(client, "/repo").await);
    let elsewhere = new_run_in(client, "/repo/").await;
    for run in [&here, &same, &elsewhere] {
        add_task(client, &run.id, with(&["src"])).await;
    }
    let held = claim(client, &here.id).await.unwrap();
    assert_eq!(claim(client, &same.id).await, None);
    assert!(claim(client, &elsewhere.id).await.is_some(), "compared byte for byte");
    assert_eq!(claim(client, "").await, None, "also for a claim over all runs");
    complete(client, &held).await;
    assert_eq!(claim(client, "").await.unwrap().task.unwrap().run_id, same.id);
}

#[tokio::test]
async fn the_label_path_policy_turns_it_off() {
    let server = TestServer::start().await;
    let client = &server.client;
    for (policy, at_once) in [("on", 1), ("off", 2)] {
        let labels = [("path_policy".to_owned(), policy.to_owned())].into();
        let request = CreateRunRequest { goal: "g".into(), repo_path: policy.into(), labels, ..unset() };
        let run = client.create_run(request).await.unwrap().run.unwrap();
        add_tasks(client, &run.id, vec![with(&["src"]), with(&["src"])]).await;
        let mut given = 0;
        while claim(client, &run.id).await.is_some() {
            given += 1;
        }
        assert_eq!(given, at_once, "path_policy {policy}");
    }
}

/// A run that ignores paths declares nothing to others either.
#[tokio::test]
async fn a_run_with_the_policy_off_is_in_nobodys_way() {
    let server = TestServer::start().await;
    let (client, on) = (&server.client, new_run(&server.client).await);
    let labels = [("path_policy".to_owned(), "off".to_owned())].into();
    let request = CreateRunRequest { goal: "g".into(), repo_path: on.repo_path.clone(), labels, ..unset() };
    let off = client.create_run(request).await.unwrap().run.unwrap();
    for run in [&off, &on, &off] {
        add_task(client, &run.id, with(&["src"])).await;
        assert!(claim(client, &run.id).await.is_some());
    }
}

/// A task that is in the way of the first in line does not hold up those behind it.
#[tokio::test]
async fn who_is_free_is_not_held_up_by_who_is_not() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    let urgent = TaskDraft { priority: 9, ..with(&["src/main.rs"]) };
    add_tasks(client, &run.id, vec![with(&["src/**"]), urgent.clone(), urgent, with(&["doc"])]).await;
    assert_eq!(title_of_claim(client, &run.id).await.as_deref(), Some(r#"["src/main.rs"]"#));
    assert_eq!(title_of_claim(client, &run.id).await.as_deref(), Some(r#"["doc"]"#));
    assert_eq!(title_of_claim(client, &run.id).await, None);
}

/// A replan lets the holders go on, or takes their paths back with their tasks.
#[tokio::test]
async fn a_replan_frees_the_paths_of_what_it_abandons() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    add_task(client, &run.id, with(&["src"])).await;
    claim(client, &run.id).await.unwrap();
    let keep = InProgressPolicy::Keep.into();
    for (in_progress, free) in [(keep, false), (0, true)] {
        let (run_id, tasks) = (run.id.clone(), vec![with(&["src/a"])]);
        client
            .replace_pending_tasks(ReplacePendingTasksRequest { run_id, tasks, in_progress, ..unset() })
            .await
            .unwrap();
        assert_eq!(claim(client, &run.id).await.is_some(), free);
    }
}
