//! This module measures the rate and the latencies of SQLite's writes without a server, as ceilings for the server's
//! writes.
//!
//! The connection to the comparison database has the settings of the server's writer. The tables have the columns that
//! AppendEvents writes.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Statement};

use crate::Error;

/// The statement that creates an events table without indexes. The table has the columns that AppendEvents writes.
const BARE_TABLE: &str = "
    CREATE TABLE bare_events (
        position INTEGER NOT NULL PRIMARY KEY, run_key INTEGER NOT NULL, seq INTEGER NOT NULL, task_key INTEGER,
        source TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL, payload TEXT NOT NULL,
        create_time INTEGER NOT NULL) STRICT";

/// The statements that create the tables and the indexes to which AppendEvents writes, and insert one run.
const APPEND_TABLES: &str = "
    CREATE TABLE runs (key INTEGER NOT NULL PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE run_counters (
        run_key INTEGER NOT NULL PRIMARY KEY REFERENCES runs (key), last_seq INTEGER NOT NULL) STRICT;
    CREATE TABLE counters (
        one INTEGER NOT NULL PRIMARY KEY, last_position INTEGER NOT NULL, last_key INTEGER NOT NULL) STRICT;
    CREATE TABLE events (
        position INTEGER NOT NULL PRIMARY KEY, run_key INTEGER NOT NULL, deleted_run_id TEXT, seq INTEGER NOT NULL,
        task_key INTEGER, source TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL, payload TEXT NOT NULL,
        create_time INTEGER NOT NULL) STRICT;
    CREATE INDEX events_by_run ON events (run_key, position);
    INSERT INTO runs (key, id) VALUES (1, 'run');
    INSERT INTO run_counters (run_key, last_seq) VALUES (1, 0);
    INSERT INTO counters (one, last_position, last_key) VALUES (1, 0, 1)";

/// Opens a database with the settings of the server's writer, creates the tables, and returns the connection. Fails if
/// the folder does not support WAL, or if the file can't be written.
fn open(path: &Path, tables: &str) -> Result<Connection, Error> {
    let conn = Connection::open(path)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Error::NoWal(mode));
    }
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", "ON")?;
    conn.execute_batch(tables)?;
    Ok(conn)
}

/// Inserts rows into a table without indexes and returns the number of inserted rows per second.
///
/// # Errors
/// Fails if the database file can't be created or written.
pub fn measure_bare_inserts(path: &Path, transactions: usize, rows: usize, payload: &str) -> Result<f64, Error> {
    let conn = open(path, BARE_TABLE)?;
    let sql = "INSERT INTO bare_events VALUES (?1, 1, ?1, NULL, 'agent', 'tool_used', 'edited a file', ?2, ?1)";
    let mut insert = conn.prepare(sql)?;
    let started = Instant::now();
    for transaction in 0..transactions {
        let first = (transaction * rows) as i64;
        conn.execute_batch("BEGIN IMMEDIATE")?;
        for position in first..first + rows as i64 {
            insert.execute((position, payload))?;
        }
        conn.execute_batch("COMMIT")?;
    }
    Ok((transactions * rows) as f64 / started.elapsed().as_secs_f64())
}

/// Commits the SQL statements of a one-event AppendEvents call `count` times, and returns the latency of each commit.
///
/// # Errors
/// Fails if the database file can't be created or written.
pub fn time_single_event_commits(path: &Path, count: usize, payload: &str) -> Result<Vec<Duration>, Error> {
    let conn = open(path, APPEND_TABLES)?;
    let mut statements = AppendStatements::prepare(&conn)?;
    let mut times = Vec::with_capacity(count);
    for position in 1..=count {
        let started = Instant::now();
        statements.commit(position as i64, payload)?;
        times.push(started.elapsed());
    }
    Ok(times)
}

/// The prepared SQL statements of an AppendEvents call with one event.
struct AppendStatements<'a> {
    begin: Statement<'a>,
    find_run: Statement<'a>,
    take_seq: Statement<'a>,
    insert: Statement<'a>,
    save_counters: Statement<'a>,
    commit: Statement<'a>,
}

impl<'a> AppendStatements<'a> {
    fn prepare(conn: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            find_run: conn.prepare("SELECT key FROM runs WHERE id = 'run'")?,
            take_seq: conn.prepare("UPDATE run_counters SET last_seq = ?1 WHERE run_key = 1")?,
            insert: conn.prepare(
                "INSERT INTO events (position, run_key, seq, task_key, source, kind, message, payload, create_time)
                VALUES (?1, 1, ?1, NULL, 'agent', 'tool_used', 'edited a file', ?2, ?1)",
            )?,
            save_counters: conn.prepare("UPDATE counters SET last_position = ?1, last_key = ?1")?,
            commit: conn.prepare("COMMIT")?,
        })
    }

    fn commit(&mut self, position: i64, payload: &str) -> rusqlite::Result<()> {
        self.begin.execute(())?;
        self.find_run.query_row((), |row| row.get::<_, i64>(0))?;
        self.take_seq.execute([position])?;
        self.insert.execute((position, payload))?;
        self.save_counters.execute([position])?;
        self.commit.execute(()).map(drop)
    }
}
