//! The tables `runs` and `run_counters`. `run_counters` has the last `seq` and the last plan ordinal of each run, and when the
//! run was last served.

use super::column::json_text;
use super::table::{select, table};
use super::{Limit, Page, Tx, first, page, params};
use crate::domain::Key;
use crate::domain::run::{Run, RunStatus};
use crate::domain::time::Timestamp;
use crate::error::{Error, Resource, Result};

table! {
    runs r, run: Run;
    fixed { key, id, goal, repo_path, labels = json_text(&run.labels)?, create_time }
    saved {
        status, status_reason, status_before_pause, grace_end_time, summary, cycle_count, replan_count, plan_version,
        current_task_id, revision, update_time,
    }
}

/// Returns the run with this id. Fails with NotFound if there is none.
pub fn get(tx: &mut dyn Tx, id: &str) -> Result<Run> {
    find(tx, id)?.ok_or_else(|| Error::not_found(Resource::Run, id))
}

/// Returns the run with this id, or None if there is none.
pub fn find(tx: &mut dyn Tx, id: &str) -> Result<Option<Run>> {
    first(tx, select!("WHERE r.id = $1"), params![id], read_row)
}

/// Returns the run with this key, or None if it was deleted.
pub fn find_by_key(tx: &mut dyn Tx, key: Key) -> Result<Option<Run>> {
    first(tx, select!("WHERE r.key = $1"), params![key], read_row)
}

/// Returns the run with this key, which must exist.
pub fn by_key(tx: &mut dyn Tx, key: Key) -> Result<Run> {
    find_by_key(tx, key)?.ok_or_else(|| Error::internal(format!("no run has the key {key}")))
}

/// Returns the key of the run with this id. Fails with NotFound if there is none.
pub fn key(tx: &mut dyn Tx, id: &str) -> Result<Key> {
    let key = first(tx, "SELECT key FROM runs WHERE id = $1", params![id], |row| row.take())?;
    key.ok_or_else(|| Error::not_found(Resource::Run, id))
}

/// The part of a run that most changes of its tasks need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The status of the run.
    pub status: RunStatus,
    /// When the grace of the holders ends. None unless the run is being cancelled.
    pub grace_end_time: Option<Timestamp>,
}

/// Returns the standing of the run with this key, or None if the run was deleted.
pub fn find_standing(tx: &mut dyn Tx, key: Key) -> Result<Option<Standing>> {
    let sql = "SELECT status, grace_end_time FROM runs WHERE key = $1";
    first(tx, sql, params![key], |row| Ok(Standing { status: row.take()?, grace_end_time: row.take()? }))
}

/// Returns the standing of the run with this key, which must exist.
pub fn standing(tx: &mut dyn Tx, key: Key) -> Result<Standing> {
    find_standing(tx, key)?.ok_or_else(|| Error::internal(format!("no run has the key {key}")))
}

/// Adds a run that has no events yet.
pub fn insert(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    insert_row(tx, run)?;
    let sql = "INSERT INTO run_counters (run_key, last_seq, last_ordinal, last_served) VALUES ($1, 0, 0, 0)";
    tx.write(sql, params![run.key])
}

/// Updates the columns of a run that can change.
pub fn save(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    save_row(tx, run)
}

/// Returns the runs before a key, the newest first. `statuses` is a set of `RunStatus::bit`.
pub fn list(tx: &mut dyn Tx, statuses: i64, before: Key, limit: Limit) -> Result<Page<Run>> {
    let sql = select!("WHERE r.key < $1 AND ((1 << r.status) & $2) <> 0 ORDER BY r.key DESC");
    page(tx, sql, params![before, statuses], limit, read_row)
}

/// Takes `count` sequence numbers for events of a run. Returns the last.
pub fn take_seqs(tx: &mut dyn Tx, run_key: Key, count: i64) -> Result<i64> {
    let sql = "UPDATE run_counters SET last_seq = last_seq + $2 WHERE run_key = $1 RETURNING last_seq";
    counted(first(tx, sql, params![run_key, count], |row| row.take())?)
}

/// Takes `count` ordinals for tasks of a run. Returns the last.
pub fn take_ordinals(tx: &mut dyn Tx, run_key: Key, count: i32) -> Result<i32> {
    let sql = "UPDATE run_counters SET last_ordinal = last_ordinal + $2 WHERE run_key = $1 RETURNING last_ordinal";
    counted(first(tx, sql, params![run_key, count], |row| row.take())?)
}

/// Records that a task of this run was claimed. `attempt_key` is the key of the attempt that the claim opened.
pub fn note_served(tx: &mut dyn Tx, run_key: Key, attempt_key: Key) -> Result<()> {
    tx.write("UPDATE run_counters SET last_served = $2 WHERE run_key = $1", params![run_key, attempt_key])
}

fn counted<T>(row: Option<T>) -> Result<T> {
    row.ok_or_else(|| Error::internal("a run has no counters"))
}
