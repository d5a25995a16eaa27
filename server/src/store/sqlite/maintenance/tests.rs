//! Tests of the operations on database files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use super::super::file::DatabaseFile;
use super::super::{header, mark};
use super::*;
use crate::clock::SystemClock;
use crate::store::counters::POSITION_JUMP;
use crate::store::sqlite::open_writer;
use crate::store::{Store, imports};

/// Number of pages that the rows of the fixture fill at least.
const PAGES: i64 = 2_000;

struct Fixture {
    folder: TempDir,
    db: PathBuf,
}

impl Fixture {
    /// Returns a closed database with a run, an event at position 5, and a table that fills `PAGES` pages.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("runhub.db");
        let conn = open_writer(&db).unwrap();
        conn.execute_batch(
            "INSERT INTO counters (one, last_position, last_key, log_id) VALUES (1, 5, 7, 'log');
            INSERT INTO runs (key, id, goal, repo_path, labels, status, cycle_count, replan_count, plan_version, revision,
                create_time, update_time) VALUES (1, 'run', 'g', '/repo', '{}', 2, 0, 0, 0, 1, 0, 0);
            INSERT INTO events (position, run_key, seq, source, kind, message, payload, create_time)
                VALUES (5, 1, 1, 'test', 'x', '', '{}', 0);
            CREATE TABLE filler (bytes BLOB)",
        )
        .unwrap();
        let transaction = conn.unchecked_transaction().unwrap();
        for _ in 0..PAGES {
            transaction.execute("INSERT INTO filler VALUES (randomblob(3500))", []).unwrap();
        }
        transaction.commit().unwrap();
        let file = DatabaseFile::open(&db).unwrap();
        mark::complete_file(&conn, &file).unwrap();
        drop(conn);
        Self { folder, db }
    }

    /// Marks the database as open, and returns a connection that writes.
    fn open_as_server(&self) -> Connection {
        let file = DatabaseFile::open(&self.db).unwrap();
        mark::prepare(&file, header::inspect(&file).unwrap()).unwrap();
        drop(file);
        open_writer(&self.db).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the names of all files in the folder.
    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn control() -> Control {
    Control::new(|_| {})
}

/// Returns a control that interrupts its operation as soon as the operation reports a step for which `is_due` is true.
fn interrupted_when(is_due: impl Fn(Progress) -> bool + Send + Sync + 'static) -> Control {
    let own = Arc::new(OnceLock::<Control>::new());
    let shared = Arc::clone(&own);
    let control = Control::new(move |progress| {
        if is_due(progress) {
            shared.get().unwrap().interrupt();
        }
    });
    assert!(own.set(control.clone()).is_ok());
    control
}

fn read(db: &Path, sql: &str) -> Value {
    Connection::open(db).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

fn execute(db: &Path, sql: &str) {
    Connection::open(db).unwrap().execute_batch(sql).unwrap();
}

/// Each report of the progress is followed by a commit of another connection. Without the read transaction, SQLite
/// would begin again after each commit.
#[test]
fn backup_beside_a_writer_is_the_state_at_its_start() {
    let fixture = Fixture::new();
    execute(&fixture.db, "CREATE TABLE late (number INTEGER)");
    let writer = Mutex::new(fixture.open_as_server());
    let copied = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&copied);
    let control = Control::new(move |progress| {
        let Progress::Copying { bytes, .. } = progress else { return };
        let before = seen.swap(bytes, Ordering::Relaxed);
        assert!(bytes > before, "the copy began again: {bytes} bytes after {before}");
        writer.lock().unwrap().execute("INSERT INTO late VALUES (1)", []).unwrap();
    });
    let file = fixture.path("backup.db");
    let done = backup(&fixture.db, &file, &control).unwrap();
    drop(control);
    assert_eq!(done.log_end, LogEnd { log_id: "log".to_owned(), last_position: 5 });
    assert_eq!(done.bytes, std::fs::metadata(&file).unwrap().len());
    assert!(copied.load(Ordering::Relaxed) > 4 * 1024 * 1024, "the copy had too few steps");
    assert_eq!(read(&file, "SELECT COUNT(*) FROM late"), Value::Integer(0));
    let Value::Integer(late) = read(&fixture.db, "SELECT COUNT(*) FROM late") else { panic!("no number") };
    assert!(late >= 4, "{late}");
}

#[test]
fn backup_is_one_complete_file_that_only_its_owner_can_read() {
    let fixture = Fixture::new();
    let writer = fixture.open_as_server();
    writer.execute("UPDATE runs SET goal = 'only in the write-ahead log'", []).unwrap();
    let file = fixture.path("backup.db");
    backup(&fixture.db, &file, &control()).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes[18..20], [1, 1], "the backup must not need a write-ahead log");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read(&file, "SELECT goal FROM runs"), Value::Text("only in the write-ahead log".to_owned()));
    assert_eq!(fixture.files(), ["backup.db", "runhub.db", "runhub.db-shm", "runhub.db-wal"]);
}

/// The server opens the database after the backup has begun, and crashes before the backup ends.
#[test]
fn backup_keeps_the_log_of_a_crashed_server() {
    let fixture = Arc::new(Fixture::new());
    let server = Arc::clone(&fixture);
    let control = Control::new(move |progress| {
        if matches!(progress, Progress::Copying { bytes, .. } if bytes < 2 * 1024 * 1024) {
            // Because the backup still has the database open, SQLite keeps the log when this connection is closed.
            let writer = server.open_as_server();
            writer.execute("UPDATE runs SET goal = 'only in the write-ahead log'", []).unwrap();
        }
    });
    backup(&fixture.db, &fixture.path("backup.db"), &control).unwrap();
    assert_eq!(fixture.files(), ["backup.db", "runhub.db", "runhub.db-shm", "runhub.db-wal"]);
    vacuum(&fixture.db, &self::control()).unwrap();
    assert_eq!(read(&fixture.db, "SELECT goal FROM runs"), Value::Text("only in the write-ahead log".to_owned()));
}

#[test]
fn failed_reset_of_the_log_id_keeps_the_loss_of_commits() {
    let fixture = Fixture::new();
    execute(&fixture.db, "UPDATE counters SET last_position = 9223372036854775800");
    drop(fixture.open_as_server());
    std::fs::remove_file(fixture.path("runhub.db-wal")).unwrap();
    let assert_lost = || {
        let refused = vacuum(&fixture.db, &control());
        assert!(matches!(refused, Err(MaintenanceError::LostCommits(_))), "{refused:?}");
    };
    assert_lost();
    assert!(reset_log_id(&fixture.db).unwrap_err().to_string().contains("has used all positions"));
    assert_lost();
    execute(&fixture.db, "UPDATE counters SET last_position = 5");
    reset_log_id(&fixture.db).unwrap();
    vacuum(&fixture.db, &control()).unwrap();
}

#[test]
fn interrupted_operation_leaves_no_file() {
    let fixture = Fixture::new();
    let file = fixture.path("backup.db");
    backup(&fixture.db, &file, &control()).unwrap();
    let files = fixture.files();
    for at in [Progress::Copying { bytes: 1024 * 1024, total: 0 }, Progress::Checking] {
        let interrupted = |operation: &dyn Fn(&Control) -> Result<(), MaintenanceError>| {
            let control =
                interrupted_when(move |progress| std::mem::discriminant(&progress) == std::mem::discriminant(&at));
            assert!(matches!(operation(&control), Err(MaintenanceError::Interrupted)), "{at:?}");
            assert_eq!(fixture.files(), files, "{at:?}");
        };
        interrupted(&|control| backup(&fixture.db, &fixture.path("new.db"), control).map(drop));
        interrupted(&|control| restore(&file, &fixture.path("new.db"), control).map(drop));
    }
}

#[tokio::test]
async fn restored_database_has_a_new_log_id_and_higher_positions() {
    let fixture = Fixture::new();
    let (file, db) = (fixture.path("backup.db"), fixture.path("new.db"));
    backup(&fixture.db, &file, &control()).unwrap();
    let done = restore(&file, &db, &control()).unwrap();
    assert_eq!(done.log.old, LogEnd { log_id: "log".to_owned(), last_position: 5 });
    assert_eq!(done.log.new.last_position, 5 + POSITION_JUMP);
    assert_ne!(done.log.new.log_id, "log");
    let store = Store::open(&db, Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap();
    assert_eq!(store.log_id(), done.log.new.log_id);
    assert_eq!(store.transact(|tx| tx.next_position()).await.unwrap(), 6 + POSITION_JUMP);
    assert_eq!(read(&file, "SELECT log_id FROM counters"), Value::Text("log".to_owned()), "the backup is unchanged");
}

/// The counter of a damaged or hand-made database can be behind its events.
#[test]
fn positions_continue_after_the_newest_event() {
    let fixture = Fixture::new();
    execute(&fixture.db, "UPDATE counters SET last_position = 3");
    let done = reset_log_id(&fixture.db).unwrap();
    assert_eq!((done.old.last_position, done.new.last_position), (3, 5 + POSITION_JUMP));
    execute(&fixture.db, "UPDATE counters SET last_position = 9223372036854775800");
    let refused = reset_log_id(&fixture.db).unwrap_err();
    assert!(refused.to_string().contains("has used all positions"), "{refused}");
}

#[test]
fn database_of_an_older_version_is_backed_up_and_restored_without_a_migration() {
    let fixture = Fixture::new();
    let (old, file, db) = (fixture.path("old.db"), fixture.path("backup.db"), fixture.path("new.db"));
    std::fs::write(&old, include_bytes!("../../../../migrations/fixtures/version_7.db")).unwrap();
    backup(&old, &file, &control()).unwrap();
    restore(&file, &db, &control()).unwrap();
    reset_log_id(&db).unwrap();
    vacuum(&db, &control()).unwrap();
    for path in [&old, &file, &db] {
        assert_eq!(read(path, "PRAGMA user_version"), Value::Integer(7));
    }
    drop(open_writer(&db).unwrap());
}

/// Runs each operation on a file and checks that it is refused and that the folder is unchanged.
fn assert_refused(fixture: &Fixture, file: &Path, expected: &str) {
    let before = fixture.files();
    let new = fixture.path("new.db");
    let results = [
        backup(file, &new, &control()).map(drop),
        restore(file, &new, &control()).map(drop),
        reset_log_id(file).map(drop),
        vacuum(file, &control()).map(drop),
    ];
    for (at, result) in results.into_iter().enumerate() {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "operation {at}: {error}");
    }
    assert_eq!(fixture.files(), before);
}

#[test]
fn file_that_is_not_a_database_of_runhub_is_refused_and_unchanged() {
    let fixture = Fixture::new();
    assert_refused(&fixture, &fixture.path("missing.db"), "missing.db does not exist");
    assert_refused(&fixture, &fixture.path("no/folder.db"), "does not exist");
    for (name, journal_mode) in [("rollback.db", "DELETE"), ("wal.db", "WAL")] {
        let other = fixture.path(name);
        let conn = Connection::open(&other).unwrap();
        conn.pragma_update(None, "journal_mode", journal_mode).unwrap();
        conn.execute_batch("CREATE TABLE runs (id); CREATE TABLE events (id); INSERT INTO runs VALUES (1)").unwrap();
        drop(conn);
        let before = std::fs::read(&other).unwrap();
        assert_refused(&fixture, &other, "is not a database of Runhub");
        assert_eq!(std::fs::read(&other).unwrap(), before);
        assert!(!fixture.path(&format!("{name}.lock")).exists());
    }
    for (name, content) in [("text.db", "not a database, but long enough to be read as one"), ("empty.db", "")] {
        std::fs::write(fixture.path(name), content).unwrap();
        assert_refused(&fixture, &fixture.path(name), "is not a database of Runhub");
        assert_eq!(std::fs::read(fixture.path(name)).unwrap(), content.as_bytes());
    }
}

#[test]
fn database_of_a_newer_version_is_refused() {
    let fixture = Fixture::new();
    execute(&fixture.db, "PRAGMA user_version = 1000");
    assert_refused(&fixture, &fixture.db, "was written by a newer runhub");
}

#[test]
fn damaged_database_is_neither_backed_up_nor_restored() {
    let fixture = Fixture::new();
    let mut bytes = std::fs::read(&fixture.db).unwrap();
    // The rows of the last pages belong to the table `filler`.
    let damaged = bytes.len() - 40 * 4_096;
    bytes[damaged..damaged + 4_096].fill(0xab);
    std::fs::write(&fixture.db, bytes).unwrap();
    let before = fixture.files();
    let new = fixture.path("new.db");
    for result in [backup(&fixture.db, &new, &control()).map(drop), restore(&fixture.db, &new, &control()).map(drop)] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("runhub.db is damaged (") && error.contains("use an earlier backup"), "{error}");
        assert_eq!(fixture.files(), before);
    }
}

/// A file of SQLite with the name of the target would be applied to the new database.
#[test]
fn no_file_is_replaced() {
    let fixture = Fixture::new();
    let file = fixture.path("backup.db");
    backup(&fixture.db, &file, &control()).unwrap();
    for name in ["new.db", "new.db-wal", "new.db-shm", "new.db-journal"] {
        std::fs::write(fixture.path(name), "mine").unwrap();
        let new = fixture.path("new.db");
        for result in [backup(&fixture.db, &new, &control()).map(drop), restore(&file, &new, &control()).map(drop)] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("never replaces a file"), "{error}");
        }
        assert_eq!(std::fs::read(fixture.path(name)).unwrap(), b"mine");
        std::fs::remove_file(fixture.path(name)).unwrap();
    }
    let dangling = fixture.path("link.db");
    std::os::unix::fs::symlink(fixture.path("nowhere"), &dangling).unwrap();
    assert!(matches!(backup(&fixture.db, &dangling, &control()), Err(MaintenanceError::Exists(_))));
    let in_missing_folder = backup(&fixture.db, &fixture.path("no/new.db"), &control()).unwrap_err();
    assert!(in_missing_folder.to_string().contains("can't write"), "{in_missing_folder}");
}

/// A file with the target's name can appear while the copy is written.
#[test]
fn file_that_appears_during_the_copy_is_not_replaced() {
    let fixture = Fixture::new();
    let new = fixture.path("new.db");
    let appears = new.clone();
    let control = Control::new(move |_| std::fs::write(&appears, "mine").unwrap());
    assert!(matches!(backup(&fixture.db, &new, &control), Err(MaintenanceError::Exists(_))));
    assert_eq!(std::fs::read(&new).unwrap(), b"mine");
    assert_eq!(fixture.files(), ["new.db", "runhub.db"]);
}

#[tokio::test]
async fn open_database_is_backed_up_but_not_changed() {
    let fixture = Fixture::new();
    let store = Store::open(&fixture.db, Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap();
    for refused in [reset_log_id(&fixture.db).map(drop), vacuum(&fixture.db, &control()).map(drop)] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("another runhub has the database"), "{error}");
    }
    let restored = restore(&fixture.db, &fixture.db, &control());
    assert!(matches!(restored, Err(MaintenanceError::Exists(_))));
    backup(&fixture.db, &fixture.path("backup.db"), &control()).unwrap();
    // The store still has its locks and can write.
    store.transact(|tx| imports::insert(tx, "digest", "test", 0)).await.unwrap();
    assert_eq!(store.log_id(), "log");
}

#[test]
fn vacuum_converts_an_older_database_and_returns_space() {
    let fixture = Fixture::new();
    execute(&fixture.db, "PRAGMA auto_vacuum = NONE; VACUUM; DELETE FROM filler WHERE rowid % 2 = 0");
    let before = std::fs::metadata(&fixture.db).unwrap().len();
    let needed = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&needed);
    let control = Control::new(move |progress| {
        if let Progress::Vacuuming { needed } = progress {
            seen.store(needed, Ordering::Relaxed);
        }
    });
    let done = vacuum(&fixture.db, &control).unwrap();
    let after = std::fs::metadata(&fixture.db).unwrap().len();
    assert_eq!(done, Vacuumed { bytes_before: before, bytes_after: after, is_converted: true });
    assert!(after < before * 6 / 10, "{before} bytes before, {after} bytes after");
    let needed = needed.load(Ordering::Relaxed);
    assert!(needed > after && needed < 3 * after, "needs {needed} bytes for {after} bytes");
    assert_eq!(read(&fixture.db, "PRAGMA auto_vacuum"), Value::Integer(2));
    assert_eq!(read(&fixture.db, "SELECT COUNT(*) FROM filler"), Value::Integer(PAGES / 2));
    assert_eq!(read(&fixture.db, "PRAGMA integrity_check"), Value::Text("ok".to_owned()));
    assert_eq!(fixture.files(), ["runhub.db"]);
    assert!(!vacuum(&fixture.db, &self::control()).unwrap().is_converted);
}

#[test]
fn interrupted_vacuum_changes_nothing() {
    let fixture = Fixture::new();
    execute(&fixture.db, "PRAGMA auto_vacuum = NONE; VACUUM; DELETE FROM filler WHERE rowid % 2 = 0");
    let before = std::fs::read(&fixture.db).unwrap();
    let reports = AtomicU64::new(0);
    // The first report comes before the vacuum, and the second one from within it.
    let is_inside = move |_| reports.fetch_add(1, Ordering::Relaxed) == 1;
    let control = interrupted_when(is_inside);
    assert!(matches!(vacuum(&fixture.db, &control), Err(MaintenanceError::Interrupted)));
    assert!(std::fs::read(&fixture.db).unwrap() == before);
    assert_eq!(fixture.files(), ["runhub.db"]);
}

#[test]
fn vacuum_on_a_full_disk_names_the_needed_space() {
    let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
    let error = vacuum::failure(Path::new("runhub.db"), 3 * 1024 * 1024, &full).to_string();
    assert!(error.starts_with("vacuuming runhub.db needs up to 3.0 MiB of free space in its folder"), "{error}");
}
