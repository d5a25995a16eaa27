//! Texts that would control the reader's terminal or hide something, in every field that a command prints.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Output, Stdio};

use runhub_client::Client;
use runhub_client::v1::*;
use rusqlite::Connection;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::import::{import, runstore};
use crate::support::binary::{Binary, run, runhub};
use crate::support::calls::*;

/// The bad characters that a name can have: directions, separators and invisible characters.
const BAD_NAME: &str = "\u{202e}\u{2066}\u{61c}\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}\u{2028}\u{2029}\u{e0041}";
/// The bad characters that an id or a text can have, with control sequences, and a second line.
const BAD: &str = "\u{1b}[31m\u{1b}]0;x\u{7}\u{9b}2J\r\u{8}\u{7f}\u{85}\u{202e}\u{2066}\u{61c}\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}\u{2028}\u{2029}\u{e0041}\n\u{1b}[1A";

fn is_bad(letter: char) -> bool {
    letter != '\n' && (BAD_NAME.contains(letter) || letter.is_control())
}

fn bad(text: &str) -> String {
    format!("{text}{BAD}")
}

fn bad_name(text: &str) -> String {
    format!("{text}{BAD_NAME}")
}

/// Adds bad characters to every id, name and text of a database of RunStore.
fn spoil(conn: &Connection) {
    let texts = [
        ("runs", "id goal repo_path summary current_task_id"),
        ("agents", "run_id session_id last_prompt_path"),
        ("tasks", "id run_id title objective implementation_summary"),
        ("task_attempts", "id run_id task_id summary blocker_signature"),
        ("events", "run_id message"),
        ("artifacts", "id run_id path"),
        ("checkpoints", "id run_id"),
        ("approvals", "id run_id rationale"),
    ];
    let names = [("agents", "role"), ("events", "source kind"), ("artifacts", "role kind"), ("approvals", "source")];
    let all = texts.map(|list| (list, BAD)).into_iter().chain(names.map(|list| (list, BAD_NAME)));
    for ((table, columns), bad) in all {
        for column in columns.split(' ') {
            conn.execute(&format!("UPDATE {table} SET {column} = {column} || ?"), [bad]).unwrap();
        }
    }
}

/// The ids of what the commands print.
struct World {
    server: Binary,
    ended_run: String,
    run: String,
    task: String,
    approval: [String; 2],
}

/// Starts a server with an imported run, and adds what RunStore did not have: an agent that holds a task, a pending
/// approval, the reason of a status, and an event about a task.
async fn start(folder: &Path) -> World {
    let (old, db) = (folder.join("old.db"), folder.join("runhub.db"));
    spoil(&runstore(&old));
    let imported = import("runstore", &old, &db, &[]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    let (run, ended_run, task) = (bad("run-1"), bad("run-2"), bad("task-c"));
    let agent = bad_name("agent");
    client.claim_task(claim_request(&run, &agent)).await.unwrap();
    let label = (bad_name("key"), bad("value"));
    let create = CreateRunRequest { goal: bad("goal"), repo_path: bad("/"), labels: [label].into(), ..unset() };
    let labelled = client.create_run(create).await.unwrap().run.unwrap().id;
    let reason = bad("reason");
    client.pause_run(PauseRunRequest { run_id: labelled, reason, ..unset() }).await.unwrap();
    let event =
        EventDraft { source: bad_name("s"), message: bad("m"), task_id: Some(task.clone()), ..event(&bad_name("k")) };
    append(&client, &run, vec![event]).await;
    let approval = [ask(&client, &run).await, ask(&client, &run).await];
    set_status(&client, &ended_run, RunStatus::Completed).await;
    World { server, ended_run, run, task, approval }
}

async fn ask(client: &Client, run_id: &str) -> String {
    let request = RequestApprovalRequest {
        run_id: run_id.into(),
        title: bad("title"),
        requested_by: bad_name("agent"),
        ..unset()
    };
    client.request_approval(request).await.unwrap().approval.unwrap().id
}

/// Returns the commands and their arguments. Each prints a text of an agent or of an imported file.
fn commands<'a>(world: &'a World, files: &'a [String; 3]) -> Vec<Vec<&'a str>> {
    let [ledger, old, db] = files;
    let (run, task) = (&*world.run, &*world.task);
    vec![
        vec!["runs"],
        vec!["show", run],
        vec!["tasks", run],
        vec!["watch", run, "--no-follow"],
        vec!["watch", "--all", "--no-follow"],
        vec!["why", task],
        vec!["approvals"],
        vec!["approvals", run, "--all"],
        vec!["approve", &world.approval[0], "--as", "me\u{202e}", "--because", BAD],
        vec!["reject", &world.approval[1], "--because", BAD],
        vec!["approve", &world.approval[0], "--as", BAD],
        vec!["pause", run],
        vec!["resume", run],
        vec!["cancel", run],
        vec!["pause", &world.ended_run],
        vec!["delete", &world.ended_run],
        vec!["show", "\u{1b}[31m\u{202e}no such run"],
        vec!["import", "beads", ledger, "--db", db],
        vec!["import", "runstore", old, "--db", db],
    ]
}

/// Commands that print no text of agents or imported files.
const OTHER_COMMANDS: [&str; 8] =
    ["serve", "servers", "bench", "backup", "restore", "reset-log-id", "vacuum", "migrate"];

/// Writes a beads ledger with bad characters in every field, and a RunStore database whose status is unknown.
fn write_files(folder: &Path) -> [String; 3] {
    let issue = serde_json::json!({
        "id": bad_name("a"), "title": bad("t"), bad("field"): 1,
        "dependencies": [{ "depends_on_id": bad_name("gone"), "type": "blocks" }],
    });
    let ledger = folder.join("ledger\u{202e}.jsonl");
    std::fs::write(&ledger, issue.to_string()).unwrap();
    let old = folder.join("unknown.db");
    let conn = runstore(&old);
    conn.execute("UPDATE runs SET status = ?", [BAD]).unwrap();
    [ledger, old, folder.join("imported.db")].map(|path| path.to_str().unwrap().to_owned())
}

/// Returns everything that a command has printed.
fn printed(output: &Output) -> String {
    String::from_utf8([output.stdout.as_slice(), &output.stderr].concat()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_prints_a_text_that_controls_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path()).await;
    let files = write_files(folder.path());
    let commands = commands(&world, &files);
    for command in &commands {
        let server = (command[0] != "import").then_some(["--server", &world.server.address]);
        let args = [command.as_slice(), server.as_ref().map_or(&[], |server| server.as_slice())].concat();
        let printed = printed(&run(&args));
        assert_eq!(printed.chars().find(|letter| is_bad(*letter)), None, "{command:?} printed {printed:?}");
        let shows_text = printed.contains('\u{fffd}') || printed.contains("\\u{202e}");
        assert!(shows_text, "{command:?} printed no text of an agent: {printed}");
    }
    let tested: BTreeSet<String> =
        commands.iter().map(|command| command[0]).chain(OTHER_COMMANDS).map(str::to_owned).collect();
    let all = runhub_server::cli::command();
    assert_eq!(tested, all.get_subcommands().map(|command| command.get_name().to_owned()).collect());
}

/// Programs need the texts as they are.
#[tokio::test(flavor = "multi_thread")]
async fn json_on_a_pipe_keeps_every_character() {
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path()).await;
    let output = run(&["show", &world.run, "--json", "--server", &world.server.address]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\u{9b}2J") && text.contains("\u{202e}\u{2066}"), "{text:?}");
    let snapshot: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(snapshot["run"]["goal"], bad("Ship it"));
    assert_eq!(snapshot["run"]["id"], world.run);
}

/// Runs a command on a terminal and returns what the terminal received.
fn run_on_terminal(args: &[&str]) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let user_end = File::options().read(true).write(true).open(name).unwrap();
    let mut child = runhub(args)
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .stdout(Stdio::from(user_end))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut received = Vec::new();
    // Reading ends with an error when the last program has closed the terminal.
    let _ = File::from(terminal).read_to_end(&mut received);
    child.wait().unwrap();
    String::from_utf8(received).unwrap().replace("\r\n", "\n")
}

/// Removes the styles that Runhub prints: ESC [ numbers m.
fn without_styles(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let end = part.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ';');
        plain += end.strip_prefix('m').unwrap_or_else(|| panic!("another control sequence than a style: {part:?}"));
    }
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_gets_styles_and_escaped_json() {
    let folder = tempfile::tempdir().unwrap();
    let world = start(folder.path()).await;
    let server = ["--server", world.server.address.as_str()];
    let (run, task) = (&*world.run, &*world.task);
    for args in
        [vec!["runs"], vec!["show", run], vec!["approvals"], vec!["watch", run, "--no-follow"], vec!["why", task]]
    {
        let text = run_on_terminal(&[&args[..], &server].concat());
        assert!(text.contains("\u{1b}["), "{args:?} printed no style: {text}");
        let plain = without_styles(&text);
        assert_eq!(plain.chars().find(|letter| is_bad(*letter)), None, "{args:?} printed {plain:?}");
        let json = run_on_terminal(&[&args[..], &["--json"], &server].concat());
        assert_eq!(json.chars().find(|letter| is_bad(*letter)), None, "{args:?} printed {json:?}");
        assert!(json.contains("\\u202e") && json.contains("\\udb40\\udc41"), "{json}");
        json.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
    }
    let shown = run_on_terminal(&[&["show", run, "--json"][..], &server].concat());
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["run"]["goal"], bad("Ship it"));
}
