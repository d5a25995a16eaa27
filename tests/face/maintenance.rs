//! The commands for database files: `backup`, `restore`, `reset-log-id` and `vacuum`.

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use runhub_client::v1::*;
use runhub_client::{Client, Update};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::binary::{self, Binary, runhub, signal};
use crate::support::calls::*;
use crate::support::dump::{dump, integrity};
use crate::support::soon;

/// Distance between the last position of a copied database and the first new position of the copy.
const POSITION_JUMP: i64 = 1 << 32;

struct Files {
    folder: TempDir,
    db: PathBuf,
    backup: PathBuf,
    restored: PathBuf,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        Self { db: path("runhub.db"), backup: path("backup.db"), restored: path("restored.db"), folder }
    }

    fn names(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Runs a command with the option `--db`. Blocks no thread that the client of a test needs.
async fn command(args: &[&str], db: &Path) -> Output {
    let mut command = runhub(args);
    command.arg("--db").arg(db);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Runs a command with the options `--db` and `--json`, and returns its result. Fails unless the command succeeds.
async fn succeed(args: &[&str], db: &Path) -> Value {
    let output = command(&[args, &["--json"]].concat(), db).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a command with the option `--db`, checks that the command fails, and returns its error.
async fn refuse(args: &[&str], db: &Path) -> String {
    let output = command(args, db).await;
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn log_id(client: &Client) -> String {
    client.get_server_info(unset()).await.unwrap().log_id
}

/// Subscribes after a position and returns the kinds and positions of the events up to the end of the stored log.
async fn read_stored(client: &Client, after_position: i64) -> (Vec<(String, i64)>, i64) {
    let request = SubscribeEventsRequest { after_position: Some(after_position), ..unset() };
    let mut subscription = client.subscribe(request);
    let mut events = Vec::new();
    loop {
        match soon(subscription.next()).await.unwrap().unwrap() {
            Update::Event(event) => events.push((event.kind, event.position)),
            Update::CaughtUp(position) => return (events, position),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_database_continues_with_a_new_log_id_and_higher_positions() {
    let files = Files::new();
    let server = Binary::start(&files.db, &[]);
    let client = server.connect().await;
    let run = new_run(&client).await.id;
    let in_backup = append(&client, &run, vec![event("in_backup")]).await.last_position;
    let done = succeed(&["backup", text(&files.backup)], &files.db).await;
    let old_log_id = log_id(&client).await;
    assert_eq!((&done["logId"], &done["lastPosition"]), (&old_log_id.clone().into(), &in_backup.to_string().into()));
    let lost = append(&client, &run, vec![event("lost"); 3]).await.last_position;
    server.kill();

    let done = succeed(&["restore", text(&files.backup)], &files.restored).await;
    assert_eq!(done["oldLogId"], old_log_id.as_str());
    let server = Binary::start(&files.restored, &[]);
    let client = server.connect().await;
    let new_log_id = log_id(&client).await;
    assert_eq!(done["logId"], new_log_id.as_str());
    assert_ne!(new_log_id, old_log_id);
    // Before the first new event, every reader has caught up, whatever its cursor is.
    let end = in_backup + POSITION_JUMP;
    let before = vec![("run_created".to_owned(), in_backup - 1), ("in_backup".to_owned(), in_backup)];
    assert_eq!(read_stored(&client, 0).await, (before.clone(), end));
    let answer = append(&client, &run, vec![event("new")]).await;
    assert_eq!((answer.first_seq, answer.last_position), (3, end + 1));
    let new = vec![("new".to_owned(), end + 1)];
    assert_eq!(read_stored(&client, 0).await, ([before, new.clone()].concat(), end + 1));
    for cursor in [in_backup, lost, end] {
        assert_eq!(read_stored(&client, cursor).await, (new.clone(), end + 1), "after {cursor}");
    }
    let list = ListEventsRequest { run_id: run.clone(), after_position: Some(lost), ..unset() };
    assert_eq!(client.list_events(list).await.unwrap().next_position, end + 1);
}

/// A live watcher reads the tail, which starts at the end of the restored log.
#[tokio::test(flavor = "multi_thread")]
async fn live_watcher_of_a_restored_database_gets_every_new_event() {
    let files = Files::new();
    let server = Binary::start(&files.db, &[]);
    let run = new_run(&server.connect().await).await.id;
    server.kill();
    succeed(&["reset-log-id"], &files.db).await;
    let server = Binary::start(&files.db, &["--keep-events-for", "1h"]);
    let client = server.connect().await;
    let mut subscription = client.subscribe(SubscribeEventsRequest { run_id: run.clone(), ..unset() });
    let mut expected = 1;
    while !matches!(soon(subscription.next()).await.unwrap().unwrap(), Update::CaughtUp(_)) {}
    for _ in 0..50 {
        append(&client, &run, vec![event("x"); 3]).await;
        for _ in 0..3 {
            let Update::Event(event) = soon(subscription.next()).await.unwrap().unwrap() else { panic!("no event") };
            expected += 1;
            assert_eq!((event.seq, event.position), (expected, expected + POSITION_JUMP));
        }
    }
    let snapshot = GetRunSnapshotRequest { run_id: run.clone(), ..unset() };
    let snapshot = client.get_run_snapshot(snapshot).await.unwrap().snapshot.unwrap();
    assert_eq!(snapshot.position, expected + POSITION_JUMP);
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_log_id_changes_only_the_log_id_and_the_positions() {
    let files = Files::new();
    let server = Binary::start(&files.db, &[]);
    let client = server.connect().await;
    let run = new_run(&client).await.id;
    add_tasks(&client, &run, vec![draft("a"), draft("b")]).await;
    claim(&client, &run).await.unwrap();
    let old_log_id = log_id(&client).await;
    server.kill();
    let rows = |dump: Vec<String>| dump.into_iter().filter(|row| !row.starts_with("counters")).collect::<Vec<_>>();
    let before = dump(&files.db);
    let done = succeed(&["reset-log-id"], &files.db).await;
    let after = dump(&files.db);
    assert_eq!(done["oldLogId"], old_log_id.as_str());
    let counters = after.iter().find(|row| row.starts_with("counters")).unwrap();
    assert!(counters.contains(done["lastPosition"].as_str().unwrap()), "{counters}");
    assert_eq!(rows(after), rows(before));
    assert_eq!(integrity(&files.db), "ok");
    let server = Binary::start(&files.db, &[]);
    assert_eq!(log_id(&server.connect().await).await, done["logId"].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_change_a_database_are_refused_while_a_server_runs() {
    let files = Files::new();
    let server = Binary::start(&files.db, &[]);
    let client = server.connect().await;
    let run = new_run(&client).await.id;
    succeed(&["backup", text(&files.backup)], &files.db).await;
    for args in [&["reset-log-id"][..], &["vacuum"]] {
        assert!(refuse(args, &files.db).await.contains("another runhub has the database"), "{args:?}");
    }
    assert!(refuse(&["restore", text(&files.backup)], &files.db).await.contains("never replaces a file"));
    append(&client, &run, vec![event("x")]).await;
    // After a crash, the write-ahead log is a part of the database, also if somebody removes the database file.
    server.kill();
    std::fs::remove_file(&files.db).unwrap();
    assert!(refuse(&["restore", text(&files.backup)], &files.db).await.contains("runhub.db-wal exists"));
}

/// A backup that ends before the signal arrives is repeated.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_backup_leaves_nothing() {
    let files = Files::new();
    Binary::start(&files.db, &[]).kill();
    let conn = Connection::open(&files.db).unwrap();
    conn.execute_batch("CREATE TABLE filler (bytes BLOB); INSERT INTO filler VALUES (zeroblob(200000000))").unwrap();
    drop(conn);
    let before = files.names();
    for name in ["INT", "TERM", "HUP"] {
        let (output, interrupted) = interrupt_backup(&files, name).await;
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted, so nothing was changed"), "{output:?}");
        assert!(interrupted);
        assert_eq!(files.names(), before, "{name}");
    }
}

/// Sends a signal to a backup once the backup has created its temporary file. Returns the output, and whether the
/// backup was interrupted.
async fn interrupt_backup(files: &Files, name: &str) -> (Output, bool) {
    for _ in 0..20 {
        let mut backup = runhub(&["backup", text(&files.backup), "--db", text(&files.db)]);
        let backup = backup.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let backup = signal_when_partial(files, backup, name);
        let output = backup.wait_with_output().unwrap();
        if !output.status.success() {
            return (output, true);
        }
        std::fs::remove_file(&files.backup).unwrap();
    }
    panic!("every backup ended before the signal arrived")
}

fn signal_when_partial(files: &Files, backup: Child, name: &str) -> Child {
    let begun = Instant::now();
    let is_partial = || files.names().iter().any(|name| name.ends_with(".partial") || name == "backup.db");
    while !is_partial() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the backup has created no file");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(name, backup.id());
    backup
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_returns_the_space_of_a_deleted_run() {
    let files = Files::new();
    let server = Binary::start(&files.db, &[]);
    let client = server.connect().await;
    let run = new_run(&client).await.id;
    let kept = new_run(&client).await.id;
    let payload = value(serde_json::json!("x".repeat(100_000)));
    for _ in 0..40 {
        append(&client, &run, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    set_status(&client, &run, RunStatus::Completed).await;
    client.delete_run(DeleteRunRequest { run_id: run, ..unset() }).await.unwrap();
    server.kill();
    let done = succeed(&["vacuum"], &files.db).await;
    let bytes = |name: &str| done[name].as_u64().unwrap();
    assert!(bytes("bytesBefore") > bytes("bytesAfter") + 3_000_000, "{done}");
    assert_eq!(std::fs::metadata(&files.db).unwrap().len(), bytes("bytesAfter"));
    assert_eq!(integrity(&files.db), "ok");
    let server = Binary::start(&files.db, &[]);
    assert_eq!(get_run(&server.connect().await, &kept).await.id, kept);
}

#[test]
fn commands_for_database_files_say_what_they_did() {
    let files = Files::new();
    Binary::start(&files.db, &[]).kill();
    let db = text(&files.db);
    let (backup, restored) = (text(&files.backup), text(&files.restored));
    for (args, expected) in [
        (
            &["backup", backup, "--db", db][..],
            &["Backed up", "size", "log_id", "newest position  0", "runhub restore"][..],
        ),
        (
            &["restore", backup, "--db", restored],
            &["Restored", "old log_id", "next position    4294967297", "runhub serve"],
        ),
        (&["reset-log-id", "--db", restored], &["has a new log_id", "old log_id", "next position    8589934593"]),
        (&["vacuum", "--db", restored], &["Vacuumed", "before", "after", "returned"]),
    ] {
        let shown = binary::stdout(args);
        for expected in expected {
            assert!(shown.contains(expected), "{expected:?} in {shown}");
        }
        assert!(shown.lines().all(|line| line.chars().count() <= 60 || line.contains('/')), "{shown}");
    }
}
