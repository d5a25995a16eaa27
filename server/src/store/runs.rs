//! Table `runs`, and `run_counters` beside it.

use super::column::json_text;
use super::{Columns, Limit, Page, Tx, first, page, params, rows_of};
use crate::domain::Key;
use crate::domain::run::{Run, RunStatus};
use crate::domain::time::Timestamp;
use crate::error::{Error, Resource, Result};

rows_of!($ "SELECT key, id, goal, repo_path, labels, status, status_reason, status_before_pause, grace_end_time,
        summary, cycle_count, replan_count, plan_version, current_task_id, revision, create_time, update_time
    FROM runs ");

fn run(row: &mut Columns) -> Result<Run> {
    Ok(Run {
        key: row.take()?,
        id: row.take()?,
        goal: row.take()?,
        repo_path: row.take()?,
        labels: row.take()?,
        status: row.take()?,
        status_reason: row.take()?,
        status_before_pause: row.take()?,
        grace_end_time: row.take()?,
        summary: row.take()?,
        cycle_count: row.take()?,
        replan_count: row.take()?,
        plan_version: row.take()?,
        current_task_id: row.take()?,
        revision: row.take()?,
        create_time: row.take()?,
        update_time: row.take()?,
    })
}

/// The run with this id.
pub fn get(tx: &mut dyn Tx, id: &str) -> Result<Run> {
    find(tx, id)?.ok_or_else(|| Error::not_found(Resource::Run, id))
}

/// The run with this id, if there is one.
pub fn find(tx: &mut dyn Tx, id: &str) -> Result<Option<Run>> {
    first(tx, select!("WHERE id = $1"), params![id], run)
}

/// The run with this key, unless it was deleted.
pub fn find_by_key(tx: &mut dyn Tx, key: Key) -> Result<Option<Run>> {
    first(tx, select!("WHERE key = $1"), params![key], run)
}

/// The run with this key.
pub fn by_key(tx: &mut dyn Tx, key: Key) -> Result<Run> {
    find_by_key(tx, key)?.ok_or_else(|| Error::internal(format!("no run has the key {key}")))
}

/// The key of the run with this id: what most calls need of it.
pub fn key(tx: &mut dyn Tx, id: &str) -> Result<Key> {
    let key = first(tx, "SELECT key FROM runs WHERE id = $1", params![id], |row| row.take())?;
    key.ok_or_else(|| Error::not_found(Resource::Run, id))
}

/// Where a run stands, and how long its holders have if it is being cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Standing {
    pub status: RunStatus,
    pub grace_end_time: Option<Timestamp>,
}

/// Where the run with this key stands, unless it was deleted.
pub fn find_standing(tx: &mut dyn Tx, key: Key) -> Result<Option<Standing>> {
    let sql = "SELECT status, grace_end_time FROM runs WHERE key = $1";
    first(tx, sql, params![key], |row| Ok(Standing { status: row.take()?, grace_end_time: row.take()? }))
}

/// Where the run with this key stands: what most changes of its tasks need to know.
pub fn standing(tx: &mut dyn Tx, key: Key) -> Result<Standing> {
    find_standing(tx, key)?.ok_or_else(|| Error::internal(format!("no run has the key {key}")))
}

/// Adds a run that has no event yet.
pub fn insert(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let sql = "INSERT INTO runs (key, id, goal, repo_path, labels, status, summary, cycle_count, replan_count,
            plan_version, current_task_id, revision, create_time, update_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    let labels = json_text(&run.labels)?;
    tx.execute(
        sql,
        params![
            run.key,
            run.id,
            run.goal,
            run.repo_path,
            labels,
            run.status,
            run.summary,
            run.cycle_count,
            run.replan_count,
            run.plan_version,
            run.current_task_id,
            run.revision,
            run.create_time,
            run.update_time,
        ],
    )?;
    let sql = "INSERT INTO run_counters (run_key, last_seq, last_ordinal, last_served) VALUES ($1, 0, 0, 0)";
    tx.execute(sql, params![run.key]).map(drop)
}

/// Writes what of a run can change.
pub fn save(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let sql = "UPDATE runs SET status = $2, status_reason = $3, status_before_pause = $4, grace_end_time = $5,
            summary = $6, cycle_count = $7, replan_count = $8, plan_version = $9, current_task_id = $10,
            revision = $11, update_time = $12
        WHERE key = $1";
    tx.execute(
        sql,
        params![
            run.key,
            run.status,
            run.status_reason,
            run.status_before_pause,
            run.grace_end_time,
            run.summary,
            run.cycle_count,
            run.replan_count,
            run.plan_version,
            run.current_task_id,
            run.revision,
            run.update_time,
        ],
    )
    .map(drop)
}

/// Runs with a status in the set, the newest first, below a key.
pub fn list(tx: &mut dyn Tx, statuses: i64, before: Key, limit: Limit) -> Result<Page<Run>> {
    let sql = select!("WHERE key < $1 AND ((1 << status) & $2) <> 0 ORDER BY key DESC");
    page(tx, sql, params![before, statuses], limit, run)
}

/// Takes `count` sequence numbers for events of a run; returns the last.
pub fn take_seqs(tx: &mut dyn Tx, run_key: Key, count: i64) -> Result<i64> {
    let sql = "UPDATE run_counters SET last_seq = last_seq + $2 WHERE run_key = $1 RETURNING last_seq";
    counted(first(tx, sql, params![run_key, count], |row| row.take())?)
}

/// Takes `count` ordinals for tasks of a run; returns the last.
pub fn take_ordinals(tx: &mut dyn Tx, run_key: Key, count: i32) -> Result<i32> {
    let sql = "UPDATE run_counters SET last_ordinal = last_ordinal + $2 WHERE run_key = $1 RETURNING last_ordinal";
    counted(first(tx, sql, params![run_key, count], |row| row.take())?)
}

/// Notes that a task of this run was given out, by the key of the attempt.
pub fn note_served(tx: &mut dyn Tx, run_key: Key, attempt_key: Key) -> Result<()> {
    tx.execute("UPDATE run_counters SET last_served = $2 WHERE run_key = $1", params![run_key, attempt_key]).map(drop)
}

fn counted<T>(row: Option<T>) -> Result<T> {
    row.ok_or_else(|| Error::internal("a run has no counters"))
}
