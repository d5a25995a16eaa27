//! This module reads and writes the tables `runs` and `run_counters`. A row of `run_counters` holds the last event
//! `seq` and the last task ordinal of a run, and the key of the attempt that the newest claim in the run opened.

use super::column::json_text;
use super::names::live;
use super::table::{select, table};
use super::{Columns, Limit, Page, Tx, VersionCursor, all, first, page, params, row_limit};
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

/// Returns the run with the id `id`. Fails with NotFound if no run has this id.
pub fn get(tx: &mut dyn Tx, id: &str) -> Result<Run> {
    find(tx, id)?.ok_or_else(|| Error::not_found(Resource::Run, id))
}

/// Returns the run with the id `id`, or None if no run has this id.
pub fn find(tx: &mut dyn Tx, id: &str) -> Result<Option<Run>> {
    first(tx, select!("WHERE r.id = $1 AND ", live!()), params![id], read_row)
}

/// Returns the run with the key `key`, or None if the run was deleted.
pub fn find_by_key(tx: &mut dyn Tx, key: Key) -> Result<Option<Run>> {
    first(tx, select!("WHERE r.key = $1 AND ", live!()), params![key], read_row)
}

/// Returns the run with the key `key` that the server is deleting, or None if the run was deleted.
pub fn find_hidden(tx: &mut dyn Tx, key: Key) -> Result<Option<Run>> {
    let sql = select!("WHERE r.key = $1 AND EXISTS (SELECT 1 FROM deleted_runs d WHERE d.run_key = r.key)");
    first(tx, sql, params![key], read_row)
}

/// Returns the run with the key `key`. Fails with an internal error if the run does not exist.
pub fn get_by_key(tx: &mut dyn Tx, key: Key) -> Result<Run> {
    find_by_key(tx, key)?
        .ok_or_else(|| Error::internal(format!("table `runs` has no run with the key {key}: report the bug")))
}

/// Returns the key of the run with the id `id`. Fails with NotFound if no run has this id.
pub fn get_key(tx: &mut dyn Tx, id: &str) -> Result<Key> {
    get_state(tx, id).map(|state| state.key)
}

/// Holds the columns of a run that most changes to the run's tasks depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusAndGrace {
    /// Status of the run.
    pub status: RunStatus,
    /// Time at which the grace period of the lease holders ends. None unless the run has the status CANCELLING.
    pub grace_end_time: Option<Timestamp>,
}

/// The key of a run, and the columns in `StatusAndGrace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RunState {
    pub key: Key,
    pub status: StatusAndGrace,
}

pub(super) fn read_state(row: &mut Columns) -> Result<RunState> {
    let key = row.take()?;
    Ok(RunState { key, status: StatusAndGrace { status: row.take()?, grace_end_time: row.take()? } })
}

/// Returns the state of the run with the id `id`. A transaction reads the state of each run once. Fails with NotFound if
/// no run has this id.
pub fn get_state(tx: &mut dyn Tx, id: &str) -> Result<RunState> {
    if let Some(state) = tx.cache().find_state(id) {
        return Ok(state);
    }
    let sql = "SELECT key, status, grace_end_time FROM live_runs WHERE id = $1";
    let state = first(tx, sql, params![id], read_state)?.ok_or_else(|| Error::not_found(Resource::Run, id))?;
    tx.cache().add_state(Some(id), state);
    Ok(state)
}

/// Returns the status of the run with the key `key` and the time at which the run's grace period ends, or None if the
/// run was deleted.
pub fn find_status_and_grace(tx: &mut dyn Tx, key: Key) -> Result<Option<StatusAndGrace>> {
    if let Some(state) = tx.cache().find_state_by_key(key) {
        return Ok(Some(state.status));
    }
    let sql = "SELECT key, status, grace_end_time FROM live_runs WHERE key = $1";
    let Some(state) = first(tx, sql, params![key], read_state)? else { return Ok(None) };
    tx.cache().add_state(None, state);
    Ok(Some(state.status))
}

/// Returns the status of the run with the key `key` and the time at which the run's grace period ends. Fails with an
/// internal error if the run does not exist.
pub fn get_status_and_grace(tx: &mut dyn Tx, key: Key) -> Result<StatusAndGrace> {
    find_status_and_grace(tx, key)?
        .ok_or_else(|| Error::internal(format!("table `runs` has no run with the key {key}: report the bug")))
}

/// Inserts a new run that has no events and no tasks.
pub fn insert(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    insert_row(tx, run)?;
    let sql = "INSERT INTO run_counters (run_key, last_seq, last_ordinal, last_served) VALUES ($1, 0, 0, 0)";
    tx.write(sql, params![run.key])
}

/// Updates the mutable columns of a run.
pub fn save(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    tx.cache().forget_state(run.key);
    save_row(tx, run)
}

/// Records for the claim index that the status of a run has changed.
pub fn record_status_change(tx: &mut dyn Tx, key: Key) -> Result<()> {
    let version = tx.next_claim_version()?;
    tx.write("UPDATE runs SET claim_version = $2 WHERE key = $1", params![key, version])
}

/// Holds the columns of a run that determine the place of the run's tasks in the claim order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimState {
    /// Key of the run.
    pub key: Key,
    /// Path of the repository of the run.
    pub repo_path: String,
    /// Status of the run.
    pub status: RunStatus,
    /// Key of the attempt that the newest claim in the run opened, or 0 before the first claim.
    pub last_served: i64,
    /// The last assigned event sequence number of the run.
    pub last_seq: i64,
}

/// Expands to the columns of a run `r` for `read_claim_state`.
macro_rules! claim_state_columns {
    () => {
        "r.key, r.repo_path, r.status, (SELECT c.last_served FROM run_counters c WHERE c.run_key = r.key),
            (SELECT c.last_seq FROM run_counters c WHERE c.run_key = r.key)"
    };
}
pub(super) use claim_state_columns;

/// Reads the columns of `claim_state_columns`.
pub(super) fn read_claim_state(row: &mut Columns) -> Result<ClaimState> {
    let key = row.take()?;
    let repo_path = row.take()?;
    let status = row.take()?;
    Ok(ClaimState { key, repo_path, status, last_served: row.take()?, last_seq: row.take()? })
}

/// Returns the claim state of a run, or None if the run was deleted.
pub fn find_claim_state(tx: &mut dyn Tx, key: Key) -> Result<Option<ClaimState>> {
    let sql = concat!("SELECT ", claim_state_columns!(), " FROM live_runs r WHERE r.key = $1");
    Ok(first(tx, sql, params![key], read_claim_state)?.map(|state| state.with_changes_of(tx)))
}

impl ClaimState {
    /// Returns the state after the claims of this transaction, which the table does not contain before the commit. Caches
    /// the sequence number, because a claim needs it next.
    pub(super) fn with_changes_of(self, tx: &mut dyn Tx) -> Self {
        let cache = tx.cache();
        if cache.find_last_seq(self.key).is_none() {
            cache.add_last_seq(self.key, self.last_seq);
        }
        let last_served = cache.find_last_served(self.key).unwrap_or(self.last_served);
        Self { last_served, ..self }
    }
}

/// Returns the runs whose status changed after the version `after`, with the version of each change, oldest change
/// first. The result contains at most `limit` runs.
pub fn list_status_changes(
    tx: &mut dyn Tx,
    after: VersionCursor,
    limit: usize,
) -> Result<Vec<(VersionCursor, ClaimState)>> {
    let sql = concat!(
        "SELECT r.claim_version, ",
        claim_state_columns!(),
        " FROM live_runs r WHERE r.claim_version > 0 AND (r.claim_version, r.key) > ($1, $2)
        ORDER BY r.claim_version, r.key LIMIT $3"
    );
    let changed = all(tx, sql, params![after.version, after.key, row_limit(limit)], |row| {
        let version = row.take()?;
        let state = read_claim_state(row)?;
        Ok((VersionCursor { version, key: state.key }, state))
    })?;
    Ok(changed.into_iter().map(|(cursor, state)| (cursor, state.with_changes_of(tx))).collect())
}

/// Returns a page of the runs that have one of the `statuses` and a key less than `before`, newest first. `statuses` is
/// the bitwise OR of `RunStatus::bit` values.
pub fn list(tx: &mut dyn Tx, statuses: i64, before: Key, limit: Limit) -> Result<Page<Run>> {
    let sql = select!(
        "WHERE r.key < $1 AND ((CAST(1 AS BIGINT) << CAST(r.status AS INTEGER)) & $2) <> 0 AND ",
        live!(),
        " ORDER BY r.key DESC LIMIT $3 OFFSET $4"
    );
    page(tx, sql, params![before, statuses], limit, read_row)
}

/// Assigns the next `count` event sequence numbers of a run, and returns the last assigned number. Fails with an
/// internal error if the run does not exist.
pub fn assign_seqs(tx: &mut dyn Tx, run_key: Key, count: i64) -> Result<i64> {
    let last = match tx.cache().find_last_seq(run_key) {
        Some(last) => last,
        None => get_last_seq(tx, run_key)?,
    };
    tx.cache().set_last_seq(run_key, last + count);
    Ok(last + count)
}

/// Stores the counters of runs that this transaction has changed. The writer calls this function before each commit.
pub(super) fn store_counters(tx: &mut dyn Tx) -> Result<()> {
    let sql = "UPDATE run_counters SET last_seq = $2, last_served = COALESCE($3, last_served) WHERE run_key = $1";
    for changed in tx.cache().take_changed_counters() {
        tx.write(sql, params![changed.run_key, changed.last_seq, changed.last_served])?;
    }
    Ok(())
}

/// Records that a claim has opened the attempt with the key `attempt_key` in a run. The claim order uses this key to
/// find the least recently served run. Assigns and returns the sequence number of the claim's event. Fails with an
/// internal error if the run does not exist.
pub fn record_claim(tx: &mut dyn Tx, run_key: Key, attempt_key: Key) -> Result<i64> {
    let seq = assign_seqs(tx, run_key, 1)?;
    tx.cache().set_last_served(run_key, attempt_key);
    Ok(seq)
}

/// Returns the last assigned event sequence number of a run that the table stores.
fn get_last_seq(tx: &mut dyn Tx, run_key: Key) -> Result<i64> {
    let sql = "SELECT last_seq FROM run_counters WHERE run_key = $1";
    require_counter(run_key, first(tx, sql, params![run_key], |row| row.take())?)
}

/// Assigns the next `count` task ordinals of a run, and returns the last assigned ordinal. Fails with an internal error
/// if the run does not exist.
pub fn assign_ordinals(tx: &mut dyn Tx, run_key: Key, count: i32) -> Result<i32> {
    let sql = "UPDATE run_counters SET last_ordinal = last_ordinal + $2 WHERE run_key = $1 RETURNING last_ordinal";
    require_counter(run_key, first(tx, sql, params![run_key, count], |row| row.take())?)
}

fn require_counter<T>(run_key: Key, counter: Option<T>) -> Result<T> {
    counter.ok_or_else(|| {
        Error::internal(format!("table `run_counters` has no row for the run with the key {run_key}: report the bug"))
    })
}
