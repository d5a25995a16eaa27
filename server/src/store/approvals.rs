//! This module reads and writes the table `approvals`.

use super::names::verdict;
use super::table::{select, table};
use super::{Limit, Page, Tx, all, any, first, page, params, row_limit};
use crate::domain::Key;
use crate::domain::approval::{Approval, ApprovalVerdict};
use crate::error::{Error, Resource, Result};

table! {
    approvals a, approval: Approval;
    fixed {
        key, id, run_key, task_key, title, payload, requested_by, subject_digest, on_expiry, expire_time, has_ttl, create_time,
    }
    saved { source, verdict, rationale, has_expired, decide_time, consume_time, revision }
    joined "JOIN live_runs r ON r.key = a.run_key LEFT JOIN tasks t ON t.key = a.task_key" { run_id: "r.id", task_id: "t.id" }
}

/// Returns the approval with the id `id`. Fails with NotFound if no approval has this id.
pub fn get(tx: &mut dyn Tx, id: &str) -> Result<Approval> {
    find(tx, id)?.ok_or_else(|| Error::not_found(Resource::Approval, id))
}

/// Returns the approval with the id `id`, or None if no approval has this id.
pub fn find(tx: &mut dyn Tx, id: &str) -> Result<Option<Approval>> {
    first(tx, select!("WHERE a.id = $1"), params![id], read_row)
}

/// Returns the approval with the key `key`, or None if the approval's run was deleted.
pub fn find_by_key(tx: &mut dyn Tx, key: Key) -> Result<Option<Approval>> {
    first(tx, select!("WHERE a.key = $1"), params![key], read_row)
}

/// Inserts a new approval.
pub fn insert(tx: &mut dyn Tx, approval: &Approval) -> Result<()> {
    insert_row(tx, approval)
}

/// Updates the mutable columns of an approval.
pub fn save(tx: &mut dyn Tx, approval: &Approval) -> Result<()> {
    save_row(tx, approval)
}

/// Returns the most recently decided approval of a source in a run, or None if the run has no decided approval of the
/// source.
pub fn find_latest_decided(tx: &mut dyn Tx, run_key: Key, source: &str) -> Result<Option<Approval>> {
    let sql = select!(
        "WHERE a.run_key = $1 AND a.source = $2 AND a.decide_time IS NOT NULL
        ORDER BY a.decide_time DESC, a.key DESC LIMIT 1"
    );
    first(tx, sql, params![run_key, source], read_row)
}

/// Returns at most `count` pending approvals of a run, oldest first.
pub fn list_pending(tx: &mut dyn Tx, run_key: Key, count: usize) -> Result<Vec<Approval>> {
    let sql = select!("WHERE a.run_key = $1 AND a.verdict = ", verdict!(PENDING), " ORDER BY a.key LIMIT $2");
    all(tx, sql, params![run_key, row_limit(count)], read_row)
}

/// Returns whether a run has more than `count` pending approvals.
pub fn has_more_pending(tx: &mut dyn Tx, run_key: Key, count: usize) -> Result<bool> {
    let sql =
        concat!("SELECT key FROM approvals WHERE run_key = $1 AND verdict = ", verdict!(PENDING), " LIMIT 1 OFFSET $2");
    any(tx, sql, params![run_key, row_limit(count)])
}

/// Returns the keys of the pending approvals of a run.
pub fn list_pending_keys(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<Key>> {
    let sql =
        concat!("SELECT key FROM approvals WHERE run_key = $1 AND verdict = ", verdict!(PENDING), " ORDER BY key");
    all(tx, sql, params![run_key], |row| row.take())
}

/// Expands to the condition that the verdict of the approval `a` is one of the verdicts in the parameter `$3`. PostgreSQL
/// needs the casts, because the number of bits to shift has another type than the shifted number.
macro_rules! has_verdict {
    () => {
        "((CAST(1 AS BIGINT) << CAST(a.verdict AS INTEGER)) & $3) <> 0"
    };
}

/// Specifies which approvals `list` returns.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Key of the run whose approvals are listed. None means the approvals of all runs.
    pub run_key: Option<Key>,
    /// Verdicts of the listed approvals, as the bitwise OR of `ApprovalVerdict::bit` values.
    pub verdicts: i64,
    /// Source of the listed approvals. None means the approvals of all sources.
    pub source: Option<String>,
}

/// Returns a page of the approvals that match `filter` and have a key greater than `after`, oldest first.
pub fn list(tx: &mut dyn Tx, filter: &Filter, after: Key, limit: Limit) -> Result<Page<Approval>> {
    let of_run = select!(
        "WHERE a.key > $1 AND ($2 = '' OR a.source = $2) AND ",
        has_verdict!(),
        " AND a.run_key = $4 ORDER BY a.key LIMIT $5 OFFSET $6"
    );
    // If the verdict were a parameter instead of a literal, SQLite could not use the partial index `approvals_pending`.
    let pending = select!(
        "WHERE a.verdict = ",
        verdict!(PENDING),
        " AND a.key > $1 AND ($2 = '' OR a.source = $2) ORDER BY a.key LIMIT $3 OFFSET $4"
    );
    let of_all_runs = select!(
        "WHERE a.key > $1 AND ($2 = '' OR a.source = $2) AND ",
        has_verdict!(),
        " ORDER BY a.key LIMIT $4 OFFSET $5"
    );
    let source = filter.source.as_deref().unwrap_or_default();
    let verdicts = filter.verdicts;
    match filter.run_key {
        Some(run_key) => page(tx, of_run, params![after, source, verdicts, run_key], limit, read_row),
        None if verdicts == ApprovalVerdict::Pending.bit() => {
            page(tx, pending, params![after, source], limit, read_row)
        }
        None => page(tx, of_all_runs, params![after, source, verdicts], limit, read_row),
    }
}

/// Returns the key of the newest approval of a run that is not among the run's `count` newest approvals. Returns 0 if
/// there is no such approval.
pub fn find_key_before_newest(tx: &mut dyn Tx, run_key: Key, count: usize) -> Result<Key> {
    let sql = "SELECT key FROM approvals WHERE run_key = $1 ORDER BY key DESC LIMIT 1 OFFSET $2";
    Ok(first(tx, sql, params![run_key, row_limit(count)], |row| row.take())?.unwrap_or(0))
}
