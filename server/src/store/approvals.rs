//! Table `approvals`.

use super::{Columns, Limit, Page, Tx, all, first, page, params, rows_of};
use crate::domain::Key;
use crate::domain::approval::{Approval, ApprovalVerdict};
use crate::error::{Error, Resource, Result};

rows_of!($ "SELECT a.key, a.id, a.run_key, r.id, a.task_key, t.id, a.source, a.verdict, a.title, a.rationale,
        a.payload, a.requested_by, a.subject_digest, a.on_expiry, a.expire_time, a.has_expired, a.decide_time,
        a.consume_time, a.revision, a.create_time
    FROM approvals a JOIN runs r ON r.key = a.run_key LEFT JOIN tasks t ON t.key = a.task_key ");

fn approval(row: &mut Columns) -> Result<Approval> {
    Ok(Approval {
        key: row.take()?,
        id: row.take()?,
        run_key: row.take()?,
        run_id: row.take()?,
        task_key: row.take()?,
        task_id: row.take()?,
        source: row.take()?,
        verdict: row.take()?,
        title: row.take()?,
        rationale: row.take()?,
        payload: row.take()?,
        requested_by: row.take()?,
        subject_digest: row.take()?,
        on_expiry: row.take()?,
        expire_time: row.take()?,
        has_expired: row.take()?,
        decide_time: row.take()?,
        consume_time: row.take()?,
        revision: row.take()?,
        create_time: row.take()?,
    })
}

/// The approval with this id.
pub fn get(tx: &mut dyn Tx, id: &str) -> Result<Approval> {
    let found = first(tx, select!("WHERE a.id = $1"), params![id], approval)?;
    found.ok_or_else(|| Error::not_found(Resource::Approval, id))
}

/// The approval with this key, unless it was deleted.
pub fn find_by_key(tx: &mut dyn Tx, key: Key) -> Result<Option<Approval>> {
    first(tx, select!("WHERE a.key = $1"), params![key], approval)
}

/// Adds an approval.
pub fn insert(tx: &mut dyn Tx, approval: &Approval) -> Result<()> {
    let sql = "INSERT INTO approvals (key, id, run_key, task_key, source, verdict, title, rationale, payload,
            requested_by, subject_digest, on_expiry, expire_time, has_expired, decide_time, consume_time, revision,
            create_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    tx.execute(
        sql,
        params![
            approval.key,
            approval.id,
            approval.run_key,
            approval.task_key,
            approval.source,
            approval.verdict,
            approval.title,
            approval.rationale,
            approval.payload,
            approval.requested_by,
            approval.subject_digest,
            approval.on_expiry,
            approval.expire_time,
            approval.has_expired,
            approval.decide_time,
            approval.consume_time,
            approval.revision,
            approval.create_time,
        ],
    )
    .map(drop)
}

/// Writes what of an approval can change.
pub fn save(tx: &mut dyn Tx, approval: &Approval) -> Result<()> {
    let sql = "UPDATE approvals SET source = $2, verdict = $3, rationale = $4, has_expired = $5, decide_time = $6,
            consume_time = $7, revision = $8
        WHERE key = $1";
    tx.execute(
        sql,
        params![
            approval.key,
            approval.source,
            approval.verdict,
            approval.rationale,
            approval.has_expired,
            approval.decide_time,
            approval.consume_time,
            approval.revision,
        ],
    )
    .map(drop)
}

/// The approval of a source that was decided last, if one was.
pub fn latest(tx: &mut dyn Tx, run_key: Key, source: &str) -> Result<Option<Approval>> {
    let sql = select!(
        "WHERE a.run_key = $1 AND a.source = $2 AND a.decide_time IS NOT NULL
        ORDER BY a.decide_time DESC, a.key DESC LIMIT 1"
    );
    first(tx, sql, params![run_key, source], approval)
}

/// The approvals of a run that nobody has decided yet, the oldest first. 1 is PENDING.
pub fn pending_of_run(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<Approval>> {
    all(tx, select!("WHERE a.run_key = $1 AND a.verdict = 1 ORDER BY a.key"), params![run_key], approval)
}

/// Which approvals to list.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Filter {
    /// None: of all runs.
    pub run_key: Option<Key>,
    /// A set of verdicts.
    pub verdicts: i64,
    pub source: Option<String>,
}

/// Approvals after a key, the oldest first.
pub fn list(tx: &mut dyn Tx, filter: &Filter, after: Key, limit: Limit) -> Result<Page<Approval>> {
    let only_pending = filter.verdicts == ApprovalVerdict::Pending.bit();
    let sql = match (filter.run_key, only_pending) {
        (Some(_), _) => select!(
            "WHERE a.key > $1 AND ((1 << a.verdict) & $2) <> 0 AND ($3 = '' OR a.source = $3) AND a.run_key = $4
            ORDER BY a.key"
        ),
        // The inbox has an index of its own.
        (None, true) => select!(
            "WHERE a.verdict = 1 AND a.key > $1 AND $2 <> 0 AND ($3 = '' OR a.source = $3) AND $4 = 0
            ORDER BY a.key"
        ),
        (None, false) => select!(
            "WHERE a.key > $1 AND ((1 << a.verdict) & $2) <> 0 AND ($3 = '' OR a.source = $3) AND $4 = 0
            ORDER BY a.key"
        ),
    };
    let source = filter.source.as_deref().unwrap_or_default();
    let run_key = filter.run_key.unwrap_or_default();
    page(tx, sql, params![after, filter.verdicts, source, run_key], limit, approval)
}
