//! The commands, as scripts and people use them.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::TestServer;
use crate::support::binary::{self, run, runhub, stdout};
use crate::support::calls::*;

/// Runs a command against a server, without standing in the way of that server.
pub async fn shown(server: &TestServer, args: &[&str]) -> String {
    let url = server.url.clone();
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let command = move || {
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--server", &url]).collect();
        stdout(&args)
    };
    tokio::task::spawn_blocking(command).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_show_and_tasks_are_readable_and_have_json() {
    let server = TestServer::start().await;
    let (client, run) = (&server.client, new_run(&server.client).await);
    assert!(shown(&server, &["runs"]).await.contains(&run.id));
    assert!(shown(&server, &["tasks", &run.id]).await.contains("no tasks"));
    add_tasks(client, &run.id, vec![draft("first\nline"), draft("second")]).await;
    complete(client, &claim(client, &run.id).await.unwrap()).await;

    let tasks = shown(&server, &["tasks", &run.id]).await;
    assert_eq!(tasks.lines().count(), 3, "{tasks}");
    assert!(tasks.lines().nth(1).unwrap().contains("completed"), "{tasks}");
    assert!(!tasks.contains('\u{1b}'), "no colour where there is no terminal");
    let show = shown(&server, &["show", &run.id]).await;
    for expected in ["goal", "Pending: 1", "Completed: 1", "Newest attempts", "task_completed"] {
        assert!(show.contains(expected), "{expected} in {show}");
    }

    let line: Value = serde_json::from_str(shown(&server, &["runs", "--json"]).await.trim()).unwrap();
    assert_eq!((&line["id"], &line["status"]), (&run.id.clone().into(), &"RUN_STATUS_PLANNING".into()));
    let lines = shown(&server, &["tasks", &run.id, "--json"]).await;
    let titles: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["title"].clone()).collect();
    assert_eq!(titles, ["first\nline", "second"]);
    let snapshot: Value = serde_json::from_str(&shown(&server, &["show", &run.id, "--json"]).await).unwrap();
    assert_eq!(snapshot["completedTasks"][0]["title"], "first\nline");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_can_be_relied_on() {
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

#[test]
fn the_default_command_serves_and_flags_can_be_variables() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("from_env.db");
    let mut command = runhub(&[]);
    command.env("RUNHUB_LISTEN", "127.0.0.1:0").env("RUNHUB_DB", &db).env("RUNHUB_LOG", "warn");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (listens, try_it) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(listens.starts_with("runhub 0.1.0 listens on 127.0.0.1:"), "{listens}");
    assert!(try_it.contains("grpcurl -plaintext 127.0.0.1:"), "{try_it}");
    assert!(db.exists());
}

/// Variables are for the commands that know them, and in nobody else's way.
#[test]
fn variables_stand_for_flags() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let mut client = runhub(&["runs"]);
    client.env("RUNHUB_SERVER", "127.0.0.1:1").env("RUNHUB_LISTEN", "127.0.0.1:0").env("RUNHUB_DB", &db);
    assert_eq!(client.output().unwrap().status.code(), Some(3), "the server named by the variable");
    for (insecure, code) in [("1", Some(1)), ("false", Some(2))] {
        let mut serve = runhub(&["serve", "--listen", "0.0.0.0:0", "--db", "/nowhere/runhub.db"]);
        assert_eq!(serve.env("RUNHUB_INSECURE", insecure).output().unwrap().status.code(), code, "{insecure}");
    }
}

/// The reader of the output may go away, as `head` does.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_failure() {
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

#[test]
fn help_teaches() {
    let help = binary::stdout(&["--help"]);
    for expected in ["Examples:", "Exit codes:", "watch", "import", "RUNHUB_DB"] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
}

/// How fast does not matter here: that every row is measured, on a server of its own, and said so.
#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_every_row() {
    let shown = tokio::task::spawn_blocking(|| stdout(&["bench", "--quick", "--json"])).await.unwrap();
    let report: Value = serde_json::from_str(&shown).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 43, "{shown}");
    for row in rows {
        let name = row["name"].as_str().unwrap();
        // Where the machine is slow nobody is refused so soon.
        let may_be_none = name.ends_with("a refusal");
        assert!(row["value"].as_f64().map_or(may_be_none, |value| value > 0.0), "{row}");
        assert_eq!(
            (row["target"].is_number(), row["ceiling"].is_number()),
            (row["met"].is_boolean() || row["value"].is_null(), row["ratio"].is_number())
        );
    }
    assert_eq!(rows.iter().filter(|row| row["target"].is_number()).count(), 40, "{shown}");
}
