//! The files of the database: which names and files the server accepts, what it does when someone else changes them,
//! and what they contain after a stop.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use runhub_client::Client;
use runhub_client::v1::*;

use crate::support::binary::{self, Binary};
use crate::support::calls::*;
use crate::support::dump::{dump, integrity};
use crate::support::{root, until};

fn with_suffix(db: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", db.display()))
}

/// Starts a server, which must refuse the database, and returns the error message.
fn refuse(db: &Path) -> String {
    binary::refuse_to_start("127.0.0.1:0", db)
}

/// Creates a run with some events.
async fn fill(client: &Client) -> Run {
    let run = new_run(client).await;
    for number in 0..20 {
        append(client, &run.id, vec![event(&format!("event-{number}"))]).await;
    }
    run
}

/// A backup that copies only `runhub.db` contained nothing before, because all commits were in the write-ahead log.
#[tokio::test]
async fn after_a_stop_the_database_is_one_complete_file() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    let run = fill(&client).await;
    add_tasks(&client, &run.id, vec![draft("a"), draft("b")]).await;
    claim(&client, &run.id).await.unwrap();
    let before = log(&client, &run.id).await;
    // The rows include those that are only in the write-ahead log. The stop changes the row of `counters`.
    let rows = |dump: Vec<String>| dump.into_iter().filter(|row| !row.starts_with("counters")).collect::<Vec<_>>();
    let acknowledged = rows(dump(&db));
    server.terminate();
    assert!(server.wait().await);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["runhub.db"]);
    let copied = tempfile::tempdir().unwrap();
    let copy = copied.path().join("copy.db");
    fs::copy(&db, &copy).unwrap();
    assert_eq!(rows(dump(&copy)), acknowledged);
    let server = Binary::start(&copy, &[]);
    assert_eq!(log(&server.connect().await, &run.id).await, before);
}

#[tokio::test]
async fn only_the_owner_can_read_the_files_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("sock");
    let server = Binary::start_on(&format!("unix:{}", socket.display()), &folder.path().join("runhub.db"), &[]);
    fill(&server.connect().await).await;
    let mut names = Vec::new();
    for file in fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["runhub.db", "runhub.db-shm", "runhub.db-wal", "sock"]);
}

#[tokio::test]
async fn second_server_is_refused_under_every_name_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let symbolic = folder.path().join("symbolic");
    // The first server creates the file through a symbolic link that has no target yet.
    std::os::unix::fs::symlink("runhub.db", &symbolic).unwrap();
    let server = Binary::start(&symbolic, &[]);
    fill(&server.connect().await).await;
    let roundabout = folder.path().join("..").join(folder.path().file_name().unwrap()).join("runhub.db");
    for name in [&db, &symbolic, &roundabout] {
        assert!(refuse(name).contains("another runhub has"), "{}", name.display());
    }
    let hard = folder.path().join("hard");
    fs::hard_link(&db, &hard).unwrap();
    assert!(refuse(&hard).contains("another runhub has"));
    server.kill();
    for name in [&db, &hard] {
        assert!(refuse(name).contains("has 2 hard links"), "{}", name.display());
    }
    fs::remove_file(&hard).unwrap();
    Binary::start(&db, &[]);
}

/// SQLite would read `file:runhub.db` as a URI that means `runhub.db`.
#[tokio::test]
async fn name_that_looks_like_a_uri_is_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let first = Binary::start(&folder.path().join("runhub.db"), &[]);
    let mut command = binary::runhub(&["serve", "--listen", "127.0.0.1:0", "--db", "file:runhub.db", "--log", "warn"]);
    command.current_dir(folder.path());
    let second = Binary::spawn(command);
    assert!(folder.path().join("file:runhub.db").exists());
    let run = fill(&first.connect().await).await;
    let other = second.connect().await.get_run(GetRunRequest { run_id: run.id }).await;
    assert_eq!(reason(other), runhub_client::Reason::RunNotFound);
}

#[test]
fn database_of_another_program_is_refused_without_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("notes.db");
    rusqlite::Connection::open(&db).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let before = fs::read(&db).unwrap();
    assert!(refuse(&db).contains("is not a database of Runhub"));
    let text = folder.path().join("notes.txt");
    fs::write(&text, "my notes").unwrap();
    assert!(refuse(&text).contains("is not a database of Runhub"));
    assert_eq!((fs::read(&db).unwrap(), fs::read_to_string(&text).unwrap()), (before, "my notes".to_owned()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// A change that another program makes to the files of a running server.
type Intervention = fn(&Path);

fn move_database(db: &Path) {
    fs::rename(db, db.with_extension("moved")).unwrap();
}

fn replace_database(db: &Path) {
    let copy = db.with_extension("copy");
    fs::copy(db, &copy).unwrap();
    fs::rename(copy, db).unwrap();
}

fn remove_log(db: &Path) {
    fs::remove_file(with_suffix(db, "-wal")).unwrap();
}

fn move_log(db: &Path) {
    fs::rename(with_suffix(db, "-wal"), with_suffix(db, "-moved")).unwrap();
}

fn write_from_outside(db: &Path) {
    rusqlite::Connection::open(db).unwrap().execute("UPDATE runs SET goal = 'other'", []).unwrap();
}

/// In each case, commits of the server would be lost or would destroy the commits of another program.
#[tokio::test]
async fn server_stops_when_someone_else_changes_the_files_of_the_database() {
    let interventions: [(Intervention, &str); 5] = [
        (move_database, "No such file"),
        (replace_database, "the path leads to another file"),
        (remove_log, "write-ahead log: No such file"),
        (move_log, "write-ahead log: No such file"),
        (write_from_outside, "another program has written to it"),
    ];
    for (intervene, cause) in interventions {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("runhub.db");
        let messages = folder.path().join("messages");
        let server = Binary::start_with_messages(&db, &messages);
        let client = server.connect().await;
        let run = fill(&client).await;
        intervene(&db);
        let request = AppendEventsRequest { run_id: run.id.clone(), events: vec![event("late")], ..unset() };
        assert!(client.append_events(request).await.is_err(), "{cause}: nothing more is acknowledged");
        assert!(!server.wait().await, "{cause}: the server must fail");
        let messages = fs::read_to_string(&messages).unwrap();
        assert!(messages.contains(cause) && messages.contains("runhub.db"), "{cause}: {messages}");
    }
}

/// A server without calls notices too, so that a second server can't be started on the new file meanwhile.
#[tokio::test]
async fn idle_server_stops_when_its_database_is_moved() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start_with_messages(&db, &folder.path().join("messages"));
    let run = fill(&server.connect().await).await;
    move_database(&db);
    assert!(!server.wait().await);
    // A new database with the old name would destroy the log of the moved database.
    assert!(refuse(&db).contains("do not belong to the database"));
    assert!(!db.exists());
    // The moved file needs its log, which has still the old name.
    fs::rename(with_suffix(&db, "-wal"), with_suffix(&db.with_extension("moved"), "-wal")).unwrap();
    let server = Binary::start(&db.with_extension("moved"), &[]);
    assert_eq!(log(&server.connect().await, &run.id).await.len(), 21);
}

/// Returns what the server reports at its start on a database.
fn report_of_start(db: &Path) -> String {
    let messages = db.with_extension("messages");
    drop(Binary::start_with_messages(db, &messages));
    fs::read_to_string(messages).unwrap()
}

#[tokio::test]
async fn lost_log_is_reported_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    fill(&server.connect().await).await;
    server.kill();
    let copy = folder.path().join("copy.db");
    fs::copy(&db, &copy).unwrap();
    let log = fs::read(with_suffix(&db, "-wal")).unwrap();
    assert_eq!(report_of_start(&db), "", "an undamaged log is no problem");
    assert!(report_of_start(&copy).contains("the write-ahead log is missing"));
    let mut damaged = log.clone();
    damaged[10_000] ^= 1;
    let copy = folder.path().join("damaged.db");
    fs::copy(folder.path().join("copy.db"), &copy).unwrap();
    fs::write(with_suffix(&copy, "-wal"), damaged).unwrap();
    let refused = binary::run(&["vacuum", "--db", copy.to_str().unwrap()]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("is missing or damaged"), "the loss would be hidden");
    assert!(report_of_start(&copy).contains("the write-ahead log is damaged"));
    assert_eq!(report_of_start(&copy), "", "the damage is reported once");
}

/// The server has committed nothing since its start, so its log is empty.
#[tokio::test]
async fn commands_after_a_crash_cause_no_report_of_a_lost_log() {
    let folder = tempfile::tempdir().unwrap();
    let (db, backup) = (folder.path().join("runhub.db"), folder.path().join("backup.db"));
    let server = Binary::start(&db, &[]);
    fill(&server.connect().await).await;
    server.terminate();
    assert!(server.wait().await);
    for command in [&["backup", backup.to_str().unwrap()][..], &["vacuum"], &["vacuum"]] {
        Binary::start(&db, &[]).kill();
        let done = binary::run(&[command, &["--db", db.to_str().unwrap()]].concat());
        assert!(done.status.success(), "{command:?}");
        assert_eq!(report_of_start(&db), "", "{command:?}");
    }
}

/// A subscription that continues with its old cursor would skip the events that get the positions of the lost events.
#[tokio::test]
async fn damaged_log_gets_a_new_log_id() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    let run = fill(&client).await;
    let before = list_log(&client, &run.id, None).await.unwrap();
    server.kill();
    let mut damaged = fs::read(with_suffix(&db, "-wal")).unwrap();
    damaged[10_000] ^= 1;
    fs::write(with_suffix(&db, "-wal"), damaged).unwrap();
    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    assert_eq!(
        reason(list_log(&client, &run.id, Some(before.log_id.clone())).await),
        runhub_client::Reason::LogChanged
    );
    let other = new_run(&client).await;
    append(&client, &other.id, vec![event("next")]).await;
    assert!(log(&client, &other.id).await.last().unwrap().position > before.events.last().unwrap().position);
}

async fn list_log(
    client: &Client,
    run_id: &str,
    log_id: Option<String>,
) -> Result<ListEventsResponse, runhub_client::Error> {
    let request = ListEventsRequest { run_id: run_id.to_owned(), log_id, ..unset() };
    client.list_events(request).await
}

/// An operator replaces the file after a crash, and forgets the log. SQLite would write pages of the old database into
/// the new one.
#[tokio::test]
async fn log_of_another_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (db, backup) = (folder.path().join("runhub.db"), folder.path().join("backup.db"));
    let server = Binary::start(&db, &[]);
    fill(&server.connect().await).await;
    let copied = binary::run(&["backup", backup.to_str().unwrap(), "--db", db.to_str().unwrap()]);
    assert!(copied.status.success());
    fill(&server.connect().await).await;
    server.kill();
    let log = with_suffix(&db, "-wal");
    let fixture = root().join("server/migrations/fixtures/version_9.db");
    fs::copy(fixture, folder.path().join("backup_of_an_old_version.db")).unwrap();
    for other in ["backup", "backup_of_an_old_version", "stopped"] {
        let file = folder.path().join(other).with_extension("db");
        if other == "stopped" {
            let server = Binary::start(&file, &[]);
            fill(&server.connect().await).await;
            server.terminate();
            assert!(server.wait().await);
        }
        fs::copy(&file, &db).unwrap();
        let before = (fs::read(&db).unwrap(), fs::read(&log).unwrap());
        assert!(refuse(&db).contains("do not belong to the database"), "{other}");
        for command in [vec!["backup", "new.db"], vec!["vacuum"], vec!["reset-log-id"]] {
            let refused = binary::run(&[command, vec!["--db", db.to_str().unwrap()]].concat());
            assert!(String::from_utf8(refused.stderr).unwrap().contains("do not belong to the database"), "{other}");
        }
        assert!((fs::read(&db).unwrap(), fs::read(&log).unwrap()) == before, "{other}");
    }
    fs::remove_file(&log).unwrap();
    assert_eq!(report_of_start(&db), "", "without the log, the file is complete");
}

/// The counters are only in memory until the commit, so another program that appends an event does not change them.
#[tokio::test]
async fn positions_continue_after_the_newest_event() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    let run = fill(&server.connect().await).await;
    server.terminate();
    assert!(server.wait().await);
    let conn = rusqlite::Connection::open(&db).unwrap();
    conn.execute("UPDATE events SET position = 1000 WHERE position = (SELECT MAX(position) FROM events)", []).unwrap();
    drop(conn);
    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    append(&client, &run.id, vec![event("next")]).await;
    assert_eq!(log(&client, &run.id).await.last().unwrap().position, 1001);
}

/// The file system gets the space of a deleted run back, without a command and while the server runs.
#[tokio::test]
async fn space_of_a_deleted_run_is_returned() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    let run = new_run(&client).await;
    let payload = value(serde_json::json!("x".repeat(1_000_000)));
    for _ in 0..30 {
        append(&client, &run.id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    set_status(&client, &run.id, RunStatus::Completed).await;
    until(|| async { fs::metadata(&db).unwrap().len() > 14_000_000 }).await;
    client.delete_run(DeleteRunRequest { run_id: run.id, ..unset() }).await.unwrap();
    until(|| async { fs::metadata(&db).unwrap().len() < 8_000_000 }).await;
    fill(&client).await;
    server.terminate();
    assert!(server.wait().await);
    assert_eq!(integrity(&db), "ok");
}

/// Calls that never stop must not keep the server from returning space.
#[tokio::test(flavor = "multi_thread")]
async fn space_is_returned_while_calls_never_stop() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    let run = new_run(&client).await;
    let payload = value(serde_json::json!("x".repeat(1_000_000)));
    for _ in 0..20 {
        append(&client, &run.id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    set_status(&client, &run.id, RunStatus::Completed).await;
    until(|| async { fs::metadata(&db).unwrap().len() > 10_000_000 }).await;
    client.delete_run(DeleteRunRequest { run_id: run.id, ..unset() }).await.unwrap();
    let pages = || {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let conn = rusqlite::Connection::open_with_flags(&db, flags).unwrap();
        conn.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let before = pages();
    let other = new_run(&client).await;
    until(|| async {
        append(&client, &other.id, vec![event("small")]).await;
        pages() < before - 300
    })
    .await;
}
