use std::path::PathBuf;
use std::sync::Arc;

use super::super::file::wal_path;
use super::super::{mark, open_writer};
use super::*;
use crate::clock::SystemClock;
use crate::store::Store;

/// Returns the content of all files in the folder of a database.
fn read_folder(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn inspect_path(path: &Path) -> Result<Inspection, OpenError> {
    inspect(&DatabaseFile::open(path)?)
}

#[test]
fn files_of_other_programs_are_refused_without_a_change() {
    let text =
        |path: &Path| std::fs::write(path, "a text that is longer than the header of a database: ".repeat(9)).unwrap();
    let short = |path: &Path| std::fs::write(path, "short").unwrap();
    let named = |path: &Path| {
        let conn = Connection::open(path).unwrap();
        conn.execute_batch("PRAGMA application_id = 7; CREATE TABLE runs (key)").unwrap();
    };
    let tables = |path: &Path| Connection::open(path).unwrap().execute_batch("CREATE TABLE runs (key)").unwrap();
    let wal = |path: &Path| {
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE runs (key); INSERT INTO runs VALUES (1)";
        Connection::open(path).unwrap().execute_batch(sql).unwrap();
    };
    let programs: [fn(&Path); 5] = [text, short, named, tables, wal];
    for (name, create) in programs.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("what?is #this%41.db");
        create(&path);
        let before = read_folder(&path);
        assert!(matches!(inspect_path(&path), Err(OpenError::OtherFile(_))), "{name}");
        assert_eq!(read_folder(&path), before, "{name}");
    }
}

/// Returns what the file of a database says about its log.
fn mark_of(path: &Path) -> LogMark {
    let inspection = inspect_path(path).unwrap();
    assert!(!inspection.is_new);
    inspection.log_mark
}

/// Creates a database as a server that is still running, without a mark, and returns the connection.
fn create(path: &Path) -> Connection {
    let conn = open_writer(path).unwrap();
    conn.execute("INSERT INTO counters (one, last_position, last_key, log_id) VALUES (1, 0, 0, 'log')", []).unwrap();
    conn
}

fn empty_log(conn: &Connection) {
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

#[tokio::test]
async fn new_database_is_marked_before_its_first_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let new = inspect_path(&path).unwrap();
    assert_eq!((new.is_new, new.log_mark), (true, LogMark::Closed));
    let store = Store::open(&path, Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap();
    // The tables are only in the write-ahead log.
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4_096);
    let read_mark = || Header::read(&File::open(&path).unwrap(), &path).unwrap().unwrap().log_mark();
    assert_eq!(read_mark(), LogMark::Open);
    store.close().await;
    assert_eq!(read_mark(), LogMark::Closed);
}

/// Creates a database that has only the first page, and returns the page.
fn create_first_page(path: &Path) -> Vec<u8> {
    let sql = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA user_version = 0";
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
    std::fs::read(path).unwrap()
}

/// Returns the header of the journal of a transaction that creates a database.
fn journal_of_creation() -> Vec<u8> {
    let mut journal = vec![0; 512];
    journal[..8].copy_from_slice(&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    journal[20..24].copy_from_slice(&512_u32.to_be_bytes());
    journal[24..28].copy_from_slice(&4_096_u32.to_be_bytes());
    journal
}

/// The machine has crashed when SQLite had written the first page, and had not removed the journal of the transaction.
#[tokio::test]
async fn interrupted_creation_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    for first_page in [create_first_page(&path), vec![0; 4_096]] {
        std::fs::write(&path, first_page).unwrap();
        std::fs::write(folder.path().join("db-journal"), journal_of_creation()).unwrap();
        let store = Store::open(&path, Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap();
        store.close().await;
        assert_eq!(mark_of(&path), LogMark::Closed);
    }
}

/// Returns the journal of a transaction that changes the only page of a database. `page` is the page before the
/// transaction. The checksum of the page is the sum of every 200th byte, from the end of the page.
fn journal_of_change(page: &[u8]) -> Vec<u8> {
    let mut journal = journal_of_creation();
    journal[8..12].copy_from_slice(&1_u32.to_be_bytes());
    journal[16..20].copy_from_slice(&1_u32.to_be_bytes());
    journal.extend(1_u32.to_be_bytes());
    journal.extend(page);
    let checksum: u32 = page[1..].iter().rev().skip(199).step_by(200).map(|byte| u32::from(*byte)).sum();
    journal.extend(checksum.to_be_bytes());
    journal
}

/// The machine has crashed when SQLite was changing the new database to use a write-ahead log.
#[tokio::test]
async fn interrupted_second_step_of_the_creation_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let first_page = create_first_page(&path);
    std::fs::write(&path, vec![0xab; first_page.len()]).unwrap();
    std::fs::write(folder.path().join("db-journal"), journal_of_change(&first_page)).unwrap();
    let store = Store::open(&path, Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap();
    store.close().await;
    assert_eq!(mark_of(&path), LogMark::Closed);
}

/// SQLite would empty the database that an operator has put beside the journal of another one.
#[test]
fn journal_of_a_creation_beside_a_complete_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    empty_log(&create(&path));
    let before = std::fs::read(&path).unwrap();
    std::fs::write(folder.path().join("db-journal"), journal_of_creation()).unwrap();
    assert!(matches!(inspect_path(&path), Err(OpenError::OtherLog { .. })));
    assert!(std::fs::read(&path).unwrap() == before);
}

/// The mark must not be in the write-ahead log, so a checkpoint must keep the mark.
#[test]
fn mark_of_the_file_outlives_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    empty_log(&create(&path));
    let database = DatabaseFile::open(&path).unwrap();
    for _ in 0..2 {
        database.write_mark(CLOSED_ID).unwrap();
        assert_eq!(inspect(&database).unwrap().log_mark, LogMark::Closed);
        database.write_mark(OPEN_ID).unwrap();
        let conn = open_writer(&path).unwrap();
        conn.execute_batch("CREATE TABLE other (key); DROP TABLE other").unwrap();
        empty_log(&conn);
        assert_eq!(inspect(&database).unwrap().log_mark, LogMark::Open);
    }
}

/// Versions before 10 did not mark an open database in the header, so their closed mark tells nothing about the log.
#[test]
fn mark_of_an_old_version_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    std::fs::write(&path, include_bytes!("../../../../migrations/fixtures/version_9.db")).unwrap();
    assert_eq!(mark_of(&path), LogMark::Closed, "a backup has no log");
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    drop(old);
    assert_eq!(mark_of(&path), LogMark::Unknown);
    empty_log(&open_writer(&path).unwrap());
    assert_eq!(mark_of(&path), LogMark::Open);
}

/// The log of an old version can contain the first page, with the mark of the old version. A server that ends after its
/// first commit must leave a database that the next server accepts.
#[test]
fn mark_of_an_old_log_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    std::fs::write(&path, include_bytes!("../../../../migrations/fixtures/version_9.db")).unwrap();
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    old.execute_batch("CREATE TABLE large (bytes BLOB); INSERT INTO large VALUES (zeroblob(1000000))").unwrap();
    drop(old);
    let database = DatabaseFile::open(&path).unwrap();
    mark::prepare(&database, inspect(&database).unwrap()).unwrap();
    // The log is so long that SQLite's automatic checkpoint runs after the first commit.
    drop(open_writer(&path).unwrap());
    assert_eq!(inspect(&database).unwrap().log_mark, LogMark::Open);
}

#[test]
fn database_with_the_application_id_0_is_recognized_by_its_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = create(&path);
    let copy = folder.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    // The tables are only in the write-ahead log.
    std::fs::copy(wal_path(&path), wal_path(&copy)).unwrap();
    assert_eq!(mark_of(&copy), LogMark::Unknown);
    drop(conn);
}

/// A server that ends during a checkpoint leaves such a file. The write-ahead log repairs the file.
#[test]
fn partly_written_database_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = create(&path);
    empty_log(&conn);
    drop(conn);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[LENGTH..].fill(0xab);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(mark_of(&path), LogMark::Open);
}

#[test]
fn database_of_the_oldest_version_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let sql = include_str!("../../../../migrations/0001_initial.sql");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    assert_eq!(mark_of(&path), LogMark::Unknown);
}
