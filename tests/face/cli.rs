//! The commands, as scripts and people use them.

use std::process::Stdio;

use serde_json::Value;

use crate::support::TestServer;
use crate::support::binary::{run, runhub, stdout};
use crate::support::calls::*;

/// Runs a command against a server and returns what it printed. Blocks no thread that the server needs.
pub async fn cli_output(server: &TestServer, args: &[&str]) -> String {
    let url = server.url.clone();
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let command = move || {
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--server", &url]).collect();
        stdout(&args)
    };
    tokio::task::spawn_blocking(command).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_show_and_tasks_print_text_and_json() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    assert!(cli_output(&server, &["runs"]).await.contains(&run.id));
    assert!(cli_output(&server, &["tasks", &run.id]).await.contains("no tasks"));
    add_tasks(client, &run.id, vec![draft("first\nline"), draft("second")]).await;
    complete(client, &claim(client, &run.id).await.unwrap()).await;

    let tasks = cli_output(&server, &["tasks", &run.id]).await;
    assert_eq!(tasks.lines().count(), 3, "{tasks}");
    assert!(tasks.lines().nth(1).unwrap().contains("completed"), "{tasks}");
    assert!(!tasks.contains('\u{1b}'), "no color without a terminal");
    let show = cli_output(&server, &["show", &run.id]).await;
    for expected in ["goal", "Pending: 1", "Completed: 1", "Newest attempts", "task_completed"] {
        assert!(show.contains(expected), "{expected} in {show}");
    }

    let line: Value = serde_json::from_str(cli_output(&server, &["runs", "--json"]).await.trim()).unwrap();
    assert_eq!((&line["id"], &line["status"]), (&run.id.clone().into(), &"RUN_STATUS_PLANNING".into()));
    let lines = cli_output(&server, &["tasks", &run.id, "--json"]).await;
    let titles: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["title"].clone()).collect();
    assert_eq!(titles, ["first\nline", "second"]);
    let snapshot: Value = serde_json::from_str(&cli_output(&server, &["show", &run.id, "--json"]).await).unwrap();
    assert_eq!(snapshot["completedTasks"][0]["title"], "first\nline");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_name_the_kind_of_failure() {
    let server = TestServer::start().await;
    let url = server.url.clone();
    let code = |args: &[&str]| run(args).status.code();
    assert_eq!(code(&["show", "nope", "--server", &url]), Some(4));
    assert_eq!(code(&["show", " ", "--server", &url]), Some(1));
    assert_eq!(code(&["show"]), Some(2));
    assert_eq!(code(&["nonsense"]), Some(2));
    assert_eq!(code(&["serve", "--listen", "0.0.0.0:0"]), Some(2));
    assert_eq!(code(&["serve", "--listen", "nowhere"]), Some(2));
    assert_eq!(code(&["runs", "--server", "127.0.0.1:1"]), Some(3));
    assert_eq!(code(&["runs", "--server", "unix:/nowhere"]), Some(3));
    assert_eq!(code(&["runs", "--server", "no where"]), Some(2));
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["--version"]), Some(0));
}

/// The reader of the output may close it early, as `head` does.
#[tokio::test(flavor = "multi_thread")]
async fn closed_output_pipe_is_not_a_failure() {
    let server = TestServer::start().await;
    for _ in 0..3 {
        new_run(&server.client).await;
    }
    let mut runs = runhub(&["runs", "--json", "--server", &server.url]);
    let mut runs = runs.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(runs.stdout.take());
    let output = runs.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
