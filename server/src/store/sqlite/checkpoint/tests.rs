use std::path::Path;
use std::sync::Arc;

use super::super::file::wal_path;
use super::super::{open_writer, prepare_reader, reader_flags};
use super::*;

/// Number of bytes that a write of `fill` adds to the write-ahead log: a little more than `CHECKPOINT_PAGES` pages.
const FILL: i64 = 17_000_000;

fn open(path: &Path) -> Connection {
    let conn = open_writer(path).unwrap();
    conn.execute_batch("CREATE TABLE filled (bytes BLOB)").unwrap();
    conn
}

/// Replaces the only row, so that the database does not grow.
fn fill(conn: &Connection) {
    conn.execute_batch("BEGIN; DELETE FROM filled").unwrap();
    conn.execute("INSERT INTO filled VALUES (zeroblob($1))", [FILL]).unwrap();
    conn.execute_batch("COMMIT").unwrap();
}

/// Opens a connection with a read transaction that needs the write-ahead log.
fn begin_read(path: &Path) -> Connection {
    let mut conn = Connection::open_with_flags(path, reader_flags()).unwrap();
    prepare_reader(&mut conn).unwrap();
    conn.execute_batch("BEGIN").unwrap();
    conn.query_row("SELECT COUNT(*) FROM filled", [], |row| row.get::<_, i64>(0)).unwrap();
    conn
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn long_write_ahead_log_is_checkpointed_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = open(&path);
    let mut checkpointer = Checkpointer::new(Arc::default());
    assert!(!checkpointer.is_due());
    let size_before = size(&path);
    fill(&conn);
    assert_eq!(size(&path), size_before, "no checkpoint runs inside a commit");
    assert!(checkpointer.is_due());
    checkpointer.run(&conn).unwrap();
    assert!(size(&path) > size_before + 16_000_000);
    assert!(!checkpointer.is_due());
    // The next commit begins the log again, so the next checkpoint is due at its usual length.
    conn.execute_batch("INSERT INTO filled VALUES (1)").unwrap();
    assert!(!checkpointer.is_due());
    fill(&conn);
    assert!(checkpointer.is_due());
}

#[test]
fn checkpoint_is_repeated_when_the_log_has_grown_while_a_read_needs_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = open(&path);
    let mut checkpointer = Checkpointer::new(Arc::default());
    let _read = begin_read(&path);
    fill(&conn);
    assert!(checkpointer.is_due());
    checkpointer.run(&conn).unwrap();
    assert!(!checkpointer.is_due(), "a checkpoint after each commit would write the same pages again and again");
    fill(&conn);
    assert!(checkpointer.is_due());
}

/// Two reads that overlap again and again need the log all the time, so the log would grow forever.
#[tokio::test]
async fn reads_do_not_let_the_log_grow_forever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = open(&path);
    let gate = Arc::new(ReadGate::default());
    let mut checkpointer = Checkpointer::new(Arc::clone(&gate));
    let mut read = Some((gate.enter().await, begin_read(&path)));
    let mut largest = 0;
    for _ in 0..30 {
        fill(&conn);
        let next = tokio::time::timeout(Duration::ZERO, gate.enter()).await;
        // Unless the gate is closed, the next read begins before the previous read ends.
        read = next.ok().map(|running| (running, begin_read(&path)));
        if checkpointer.is_due() {
            checkpointer.run(&conn).unwrap();
        }
        largest = largest.max(size(&wal_path(&path)));
    }
    drop(read);
    assert!(largest < 100_000_000, "{largest}");
    fill(&conn);
    fill(&conn);
    assert!(size(&wal_path(&path)) <= KEPT_LOG_BYTES as u64 + 1, "{}", size(&wal_path(&path)));
}

/// Writes until the log is so long that the checkpointer waits for a running read.
fn fill_until_reads_wait(conn: &Connection, checkpointer: &mut Checkpointer, gate: &Arc<ReadGate>) {
    for _ in 0..20 {
        fill(conn);
        if checkpointer.is_due() {
            checkpointer.run(conn).unwrap();
        }
        if gate.is_closed() {
            return;
        }
    }
    panic!("the log did not become long");
}

/// Another checkpoint lets the log begin again while the checkpointer waits for a read.
#[tokio::test]
async fn reads_continue_if_the_log_begins_again_without_the_checkpointer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = open(&path);
    let gate = Arc::new(ReadGate::default());
    let mut checkpointer = Checkpointer::new(Arc::clone(&gate));
    let read = (gate.enter().await, begin_read(&path));
    fill_until_reads_wait(&conn, &mut checkpointer, &gate);
    drop(read);
    checkpoint(&conn).unwrap();
    conn.execute_batch("INSERT INTO filled VALUES (1)").unwrap();
    assert!(!checkpointer.is_due());
    assert!(!gate.is_closed());
}

/// A read that takes longer than `SHORTEST_WAIT` delays the other reads only for this time.
#[tokio::test]
async fn one_long_read_does_not_hold_back_the_other_reads_until_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = open(&path);
    let gate = Arc::new(ReadGate::default());
    let mut checkpointer = Checkpointer::new(Arc::clone(&gate));
    let _read = (gate.enter().await, begin_read(&path));
    fill_until_reads_wait(&conn, &mut checkpointer, &gate);
    while gate.is_closed() {
        checkpointer.run(&conn).unwrap();
    }
    assert_eq!(checkpointer.longest_wait, 2 * SHORTEST_WAIT);
}
