//! What SQLite does by itself: what the server's figures are compared with (`runhub bench`).

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Statement};

use super::sqlite::{self, OpenError};

/// How many rows a second go into a table of the same columns as events, without any index, in so many transactions
/// of so many rows.
///
/// # Errors
/// The file can't be made or written.
pub fn bare_inserts_per_second(path: &Path, transactions: usize, rows: usize, payload: &str) -> Result<f64, OpenError> {
    let at = |cause: rusqlite::Error| OpenError::at(path, cause);
    let conn = sqlite::open_writer(path)?;
    conn.execute_batch(
        "CREATE TABLE bare_events (
            position INTEGER NOT NULL PRIMARY KEY, run_key INTEGER NOT NULL, seq INTEGER NOT NULL, task_key INTEGER,
            source TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL, payload TEXT NOT NULL,
            create_time INTEGER NOT NULL) STRICT",
    )
    .map_err(at)?;
    let sql = "INSERT INTO bare_events VALUES (?1, 1, ?1, NULL, 'agent', 'tool_used', 'edited a file', ?2, ?1)";
    let mut insert = conn.prepare(sql).map_err(at)?;
    let begun = Instant::now();
    for transaction in 0..transactions {
        let first = (transaction * rows) as i64;
        in_transaction(&conn, &mut insert, first..first + rows as i64, payload).map_err(at)?;
    }
    Ok((transactions * rows) as f64 / begun.elapsed().as_secs_f64())
}

fn in_transaction(
    conn: &Connection,
    insert: &mut Statement,
    positions: impl Iterator<Item = i64>,
    payload: &str,
) -> rusqlite::Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    for position in positions {
        insert.execute((position, payload))?;
    }
    conn.execute_batch("COMMIT")
}

/// How long each of so many commits takes that write what one AppendEvents with one event writes.
///
/// # Errors
/// The file can't be made or written.
pub fn commits_of_one_event(path: &Path, times: usize, payload: &str) -> Result<Vec<Duration>, OpenError> {
    let at = |cause: rusqlite::Error| OpenError::at(path, cause);
    let conn = sqlite::open_writer(path)?;
    conn.execute_batch(
        "INSERT INTO runs (key, id, goal, repo_path, labels, status, cycle_count, replan_count, plan_version, revision,
            create_time, update_time) VALUES (1, 'run', '', '', '{}', 1, 0, 0, 0, 1, 0, 0);
        INSERT INTO run_counters (run_key, last_seq, last_ordinal, last_served) VALUES (1, 0, 0, 0);
        INSERT INTO counters (one, last_position, last_key, log_id) VALUES (1, 0, 1, 'log')",
    )
    .map_err(at)?;
    let mut statements = OneEvent::prepare(&conn).map_err(at)?;
    (1..=times)
        .map(|position| {
            let begun = Instant::now();
            statements.commit(position as i64, payload).map_err(at)?;
            Ok(begun.elapsed())
        })
        .collect()
}

struct OneEvent<'a> {
    begin: Statement<'a>,
    find_run: Statement<'a>,
    take_seq: Statement<'a>,
    insert: Statement<'a>,
    count: Statement<'a>,
    commit: Statement<'a>,
}

impl<'a> OneEvent<'a> {
    fn prepare(conn: &'a Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            find_run: conn.prepare("SELECT key FROM runs WHERE id = 'run'")?,
            take_seq: conn.prepare("UPDATE run_counters SET last_seq = ?1 WHERE run_key = 1")?,
            insert: conn.prepare(
                "INSERT INTO events (position, run_key, seq, task_key, source, kind, message, payload, create_time)
                VALUES (?1, 1, ?1, NULL, 'agent', 'tool_used', 'edited a file', ?2, ?1)",
            )?,
            count: conn.prepare("UPDATE counters SET last_position = ?1, last_key = ?1")?,
            commit: conn.prepare("COMMIT")?,
        })
    }

    fn commit(&mut self, position: i64, payload: &str) -> rusqlite::Result<()> {
        self.begin.execute(())?;
        self.find_run.query_row((), |row| row.get::<_, i64>(0))?;
        self.take_seq.execute([position])?;
        self.insert.execute((position, payload))?;
        self.count.execute([position])?;
        self.commit.execute(()).map(drop)
    }
}
