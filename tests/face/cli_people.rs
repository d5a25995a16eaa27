//! The commands with which people decide approvals and control runs.

use prost_types::Duration;
use runhub_client::v1::*;
use serde_json::Value;

use super::cli::cli_output;
use crate::support::TestServer;
use crate::support::binary::{run, stdout};
use crate::support::calls::*;

async fn request_approval(server: &TestServer, run_id: &str, title: &str) -> Approval {
    let request = RequestApprovalRequest {
        run_id: run_id.into(),
        title: title.into(),
        requested_by: "strategy".into(),
        subject_digest: "sha256:aa".into(),
        ttl: Some(Duration { seconds: 300, nanos: 0 }),
        ..unset()
    };
    server.client.request_approval(request).await.unwrap().approval.unwrap()
}

async fn approval(server: &TestServer, id: &str) -> Approval {
    server.client.get_approval(GetApprovalRequest { approval_id: id.into() }).await.unwrap().approval.unwrap()
}

/// Returns the exit code of a command against a server.
fn code(server: &TestServer, args: &[&str]) -> Option<i32> {
    run(&[args, &["--server", &server.url]].concat()).status.code()
}

async fn cli_json(server: &TestServer, args: &[&str]) -> Value {
    serde_json::from_str(&cli_output(server, &[args, &["--json"]].concat()).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_prints_pending_approvals_of_all_runs() {
    let server = TestServer::start().await;
    assert_eq!(cli_output(&server, &["approvals"]).await, "Nothing waits for a decision.\n");
    assert_eq!(cli_output(&server, &["approvals", "--json"]).await, "");
    assert!(cli_output(&server, &["approvals", "--all"]).await.contains("no approvals yet"));
    let one = new_run(&server.client).await;
    let other = new_run(&server.client).await;
    let first = request_approval(&server, &one.id, "Drop \u{1b}[2Jthe table?\nReally").await;
    let second = request_approval(&server, &other.id, "Deploy?").await;

    let inbox = cli_output(&server, &["approvals"]).await;
    let lines: Vec<&str> = inbox.lines().collect();
    assert_eq!(lines.len(), 3, "no hint without a terminal: {inbox}");
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), words("APPROVAL RUN EXPIRES ASKED BY TITLE"));
    assert!(lines[1].starts_with(&first.id) && lines[1].contains(&one.id), "{inbox}");
    assert!(lines[1].contains("strategy") && lines[1].ends_with("Drop \u{fffd}[2Jthe table?"), "{inbox}");
    assert!(lines[2].starts_with(&second.id) && lines[2].contains("01-15 08:05:00Z"), "{inbox}");
    let of_one = cli_output(&server, &["approvals", &other.id]).await;
    assert!(of_one.contains(&second.id) && !of_one.contains(&first.id) && !of_one.contains(&other.id), "{of_one}");

    cli_output(&server, &["approve", &first.id]).await;
    assert!(!cli_output(&server, &["approvals"]).await.contains(&first.id));
    let all = cli_output(&server, &["approvals", "--all"]).await;
    let verdicts: Vec<_> = all.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(verdicts, ["VERDICT", "approved", "pending"], "{all}");
    assert_eq!(cli_json(&server, &["approvals"]).await["title"], "Deploy?");
    assert_eq!(code(&server, &["approvals", "nope"]), Some(4));
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

/// 1,001 approvals are more than one page of the server holds.
#[tokio::test(flavor = "multi_thread")]
async fn approvals_prints_every_page() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    for at in 0..1_001 {
        request_approval(&server, &run.id, &format!("Question {at}")).await;
    }
    let inbox = cli_output(&server, &["approvals", &run.id, "--json"]).await;
    let titles: Vec<Value> =
        inbox.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["title"].clone()).collect();
    let expected: Vec<String> = (0..1_001).map(|at| format!("Question {at}")).collect();
    assert_eq!(titles, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_is_decided_once() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let yes = request_approval(&server, &run.id, "Deploy?").await;
    let no = request_approval(&server, &run.id, "Drop?").await;
    let changes = request_approval(&server, &run.id, "Rename?").await;

    let output = cli_output(&server, &["approve", &yes.id, "--because", "tests are green"]).await;
    assert_eq!(output, format!("approved by human: Deploy?  {}\n", yes.id));
    assert_eq!(approval(&server, &yes.id).await.rationale, "tests are green");
    let output = cli_output(&server, &["reject", &no.id, "--because", "not today", "--as", "ops"]).await;
    assert_eq!(output, format!("rejected by ops: Drop?  {}\n", no.id));
    let reject = ["reject", &changes.id, "--because", "a better name", "--request-changes"];
    let output = cli_json(&server, &reject).await;
    assert_eq!(
        (&output["verdict"], &output["rationale"]),
        (&"APPROVAL_VERDICT_CHANGES_REQUESTED".into(), &reject[3].into())
    );

    assert_eq!(code(&server, &["approve", &yes.id]), Some(1), "it is already decided");
    assert_eq!(code(&server, &["reject", &yes.id, "--because", "too late"]), Some(1));
    assert_eq!(code(&server, &["approve", "nope"]), Some(4));
    assert_eq!(code(&server, &["reject", &yes.id]), Some(2), "a rejection needs a reason");
    assert_eq!(code(&server, &["reject", &yes.id, "--because", ""]), Some(2));
    let show = cli_output(&server, &["show", &run.id]).await;
    assert!(show.contains("changes_requested") && show.contains("not today"), "{show}");
    assert!(!show.contains("Waiting for a decision"), "{show}");
}

#[tokio::test(flavor = "multi_thread")]
async fn decision_can_be_bound_to_a_digest() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let asked = request_approval(&server, &run.id, "Deploy?").await;
    assert_eq!(code(&server, &["approve", &asked.id, "--digest", "sha256:bb"]), Some(1));
    assert_eq!(approval(&server, &asked.id).await.verdict(), ApprovalVerdict::Pending);
    cli_output(&server, &["approve", &asked.id, "--digest", "sha256:aa"]).await;
    assert_eq!(approval(&server, &asked.id).await.verdict(), ApprovalVerdict::Approved);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_is_paused_and_resumed() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let id = run.id.as_str();
    let asked = request_approval(&server, &run.id, "Deploy?").await;
    assert_eq!(cli_output(&server, &["pause", id, "--because", "lunch"]).await, format!("Run {id} is paused\n"));
    let show = cli_output(&server, &["show", id]).await;
    for expected in ["because  lunch", "Waiting for a decision", &asked.id, "Deploy?", "run_paused"] {
        assert!(show.contains(expected), "{expected} in {show}");
    }
    assert_eq!(cli_json(&server, &["pause", id]).await["statusReason"], "lunch", "pausing again changes nothing");
    assert_eq!(cli_output(&server, &["resume", id]).await, format!("Run {id} is planning\n"));
    assert!(!cli_output(&server, &["show", id]).await.contains("because"));
    assert_eq!(cli_json(&server, &["resume", id]).await["status"], "RUN_STATUS_PLANNING");

    set_status(&server.client, id, RunStatus::Completed).await;
    for command in ["pause", "resume", "cancel"] {
        assert_eq!(code(&server, &[command, id]), Some(1), "{command} on an ended run");
        assert_eq!(code(&server, &[command, "nope"]), Some(4), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_prints_how_many_tasks_are_still_held() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let id = run.id.as_str();
    add_tasks(client, id, vec![draft("a"), draft("b"), draft("c")]).await;
    let held = [claim(client, id).await.unwrap(), claim(client, id).await.unwrap()];
    let show = cli_output(&server, &["show", id]).await;
    assert!(show.contains("LEASE ENDS") && show.contains("01-15 08:10:00Z"), "{show}");

    let output = cli_output(&server, &["cancel", id, "--because", "the wrong goal", "--grace", "2m"]).await;
    let expected = format!("Run {id} is cancelling: 2 tasks are still held, until 01-15 08:02:00Z at the latest\n");
    assert_eq!(output, expected);
    complete(client, &held[0]).await;
    let output = cli_output(&server, &["cancel", id, "--grace", "1h"]).await;
    assert!(
        output.ends_with("1 task is still held, until 01-15 08:02:00Z at the latest\n"),
        "a longer grace must not move the deadline: {output}"
    );
    assert_eq!(cli_json(&server, &["cancel", id]).await["status"], "RUN_STATUS_CANCELLING");
    assert_eq!(code(&server, &["cancel", id, "--grace", "soon"]), Some(2));
    assert_eq!(code(&server, &["cancel", id, "--grace", "25h"]), Some(1), "above the server's limit");
    assert_eq!(cli_output(&server, &["cancel", id, "--grace", "0s"]).await, format!("Run {id} is cancelled\n"));
    assert_eq!(get_run(client, id).await.status_reason, "the wrong goal");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_names_every_obstacle() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run = new_run(&server.client).await;
    let first = TaskDraft { allowed_paths: vec!["src/parser".into()], ..keyed("first", &[]) };
    let capable = TaskDraft { required_capabilities: vec!["gpu".into()], ..draft("capable") };
    let second = TaskDraft { allowed_paths: vec!["src/**".into()], ..keyed("second", &["first"]) };
    let tasks = add_tasks(client, &run.id, vec![first, second, capable]).await;
    let why = async |task: &Task| cli_output(&server, &["why", &task.id]).await;

    assert_eq!(why(&tasks[0]).await, "claimable now\n");
    let capable = why(&tasks[2]).await;
    assert!(capable.starts_with("claimable now, by an agent with the right capabilities:\n  capability"), "{capable}");
    assert!(capable.contains("gpu") && capable.lines().count() == 2, "{capable}");

    claim(client, &run.id).await.unwrap();
    let held = why(&tasks[0]).await;
    assert!(held.contains("status") && held.contains("held by agent"), "{held}");
    assert!(held.ends_with("until 01-15 08:10:00Z\n"), "{held}");
    cli_output(&server, &["pause", &run.id]).await;
    let second = why(&tasks[1]).await;
    assert!(second.starts_with("can't be claimed now:\n"), "{second}");
    let kinds: Vec<_> = second.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(kinds, ["run_paused", "dependency", "paths"], "{second}");
    for expected in [tasks[0].id.as_str(), "src/** ↔ src/parser", "until 01-15 08:10:00Z"] {
        assert!(second.lines().last().unwrap().contains(expected), "{expected} in {second}");
    }
    let json = cli_json(&server, &["why", &tasks[1].id]).await;
    assert_eq!((&json["claimable"], &json["reasons"][2]["otherPath"]), (&false.into(), &"src/parser".into()));
    assert_eq!(code(&server, &["why", "nope"]), Some(4));
}

#[test]
fn help_names_the_commands_for_people() {
    let help = stdout(&["--help"]);
    for expected in ["runhub approvals", "runhub approve", "runhub pause", "runhub why", "ask for approval"] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
    assert!(stdout(&["approvals", "--help"]).contains("runhub reject APPROVAL --because TEXT"));
}
