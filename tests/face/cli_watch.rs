//! `runhub watch`, as scripts use it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use runhub_client::v1::*;
use serde_json::Value;

use super::cli::cli_output;
use crate::support::TestServer;
use crate::support::binary::{Binary, run, runhub};
use crate::support::calls::*;

/// `watch --json` prints one event a line, resumes after a restart of the server, and ends with the run.
#[tokio::test(flavor = "multi_thread")]
async fn watch_resumes_when_the_server_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/sock", folder.path().display());
    let server = Binary::start_in_on(&socket, folder.path(), &[]);
    let run = new_run(&server.connect().await).await;
    let mut watch = runhub(&["watch", &run.id, "--json", "--server", &socket]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = move || serde_json::from_str::<Value>(&lines.next()?.unwrap()).ok();
    assert_eq!(next().unwrap()["kind"], "run_created");
    server.kill();
    let server = Binary::start_in_on(&socket, folder.path(), &[]);
    let client = server.connect().await;
    append(&client, &run.id, vec![event("after the restart")]).await;
    assert_eq!(next().unwrap()["kind"], "after the restart");
    set_status(&client, &run.id, RunStatus::Completed).await;
    assert_eq!(next().unwrap()["kind"], "run_updated");
    assert_eq!(next(), None);
    assert!(watch.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_since_starts_after_the_position() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let last = append(&server.client, &run.id, vec![event("a"), event("b")]).await.last_position;
    set_status(&server.client, &run.id, RunStatus::Completed).await;
    let since = (last - 1).to_string();
    let shown = cli_output(&server, &["watch", &run.id, "--since", &since]).await;
    let kinds: Vec<_> = shown.lines().map(|line| line.split_whitespace().nth(3).unwrap()).collect();
    assert_eq!(kinds, ["b", "run_updated"], "{shown}");
}

/// `show --json` prints a position with its log_id. `watch` starts at this position only in the same log.
#[tokio::test(flavor = "multi_thread")]
async fn watch_since_with_a_log_id_refuses_another_log() {
    let server = TestServer::start().await;
    let id = new_run(&server.client).await.id;
    let shown: Value = serde_json::from_str(&cli_output(&server, &["show", &id, "--json"]).await).unwrap();
    let (since, log_id) = (shown["position"].as_str().unwrap(), shown["logId"].as_str().unwrap());
    append(&server.client, &id, vec![event("later")]).await;
    let args = ["watch", &id, "--no-follow", "--json", "--since", since, "--log-id"];
    let watched = cli_output(&server, &[&args[..], &[log_id]].concat()).await;
    assert_eq!(kinds_of(&watched), ["later"]);
    let other = TestServer::start().await;
    let args = [&args[..], &[log_id, "--server", &other.url]].concat();
    let refused = tokio::task::block_in_place(|| run(&args));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{error}");
    assert!(error.contains("read a snapshot of the run again"), "{error}");
}

/// Returns the kind of each line that `--json` printed.
fn kinds_of(lines: &str) -> Vec<String> {
    let kind = |line| serde_json::from_str::<Value>(line).unwrap()["kind"].as_str().unwrap().to_owned();
    lines.lines().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_follow_prints_stored_events_and_exits() {
    let server = TestServer::start().await;
    let one = new_run(&server.client).await;
    let two = new_run(&server.client).await;
    append(&server.client, &one.id, vec![event("note_a"), event("other")]).await;
    append(&server.client, &two.id, vec![event("note_b")]).await;
    let json = async |args: &[&str]| {
        kinds_of(&cli_output(&server, &[&["watch", "--json", "--no-follow"], args].concat()).await)
    };
    assert_eq!(json(&[&one.id]).await, ["run_created", "note_a", "other"]);
    assert_eq!(json(&["--all"]).await, ["run_created", "run_created", "note_a", "other", "note_b"]);
    assert_eq!(json(&["--kind", "note_*"]).await, ["note_a", "note_b"]);
    assert_eq!(json(&["--kind", "note_b", "--kind", "other"]).await, ["other", "note_b"]);
    assert_eq!(json(&["--all", "--since", "2", "--kind", "note_*"]).await, ["note_a", "note_b"]);
    assert_eq!(json(&["--follow", "--no-follow", &one.id]).await.len(), 3, "the last of the two flags wins");
    let far = run(&["watch", "--all", "--since", "99", "--server", &server.url]);
    assert_eq!(far.status.code(), Some(1));
}

#[test]
fn watch_refuses_a_run_together_with_all() {
    assert_eq!(run(&["watch", "RUN", "--all"]).status.code(), Some(2));
    assert_eq!(run(&["watch", "--since", "-1"]).status.code(), Some(2));
}

/// The output has no duplicate and no gap, although the server is killed while events are appended.
#[tokio::test(flavor = "multi_thread")]
async fn watch_all_has_no_gap_across_crashes() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/sock", folder.path().display());
    let mut server = Binary::start_in_on(&socket, folder.path(), &[]);
    let run_id = new_run(&server.connect().await).await.id;
    let args = ["watch", "--all", "--follow", "--since", "0", "--json", "--server", &socket];
    let mut watch = runhub(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let client = server.connect().await;
        for _ in 0..50 {
            append(&client, &run_id, vec![event("x")]).await;
        }
        server.kill();
        server = Binary::start_in_on(&socket, folder.path(), &[]);
    }
    let seq = |line: String| serde_json::from_str::<Value>(&line).unwrap()["seq"].as_str().unwrap().parse().unwrap();
    let seqs: Vec<i64> =
        tokio::task::spawn_blocking(move || lines.take(151).map(|line| seq(line.unwrap())).collect()).await.unwrap();
    assert_eq!(seqs, (1..=151).collect::<Vec<_>>());
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_removes_an_ended_run() {
    let server = TestServer::start().await;
    let going_on = new_run(&server.client).await;
    let refused = run(&["delete", &going_on.id, "--server", &server.url]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("only a run that has ended"));
    set_status(&server.client, &going_on.id, RunStatus::Completed).await;
    assert!(cli_output(&server, &["delete", &going_on.id]).await.contains("is deleted"));
    assert_eq!(run(&["show", &going_on.id, "--server", &server.url]).status.code(), Some(4));
}
