//! Table `approvals`.

use super::{Columns, Limit, Page, Tx, first, page, params, rows_of};
use crate::domain::Key;
use crate::domain::approval::Approval;
use crate::error::Result;

rows_of!($ "SELECT a.key, a.id, r.id, t.id, a.source, a.verdict, a.rationale, a.payload, a.decide_time,
        a.revision, a.create_time
    FROM approvals a JOIN runs r ON r.key = a.run_key LEFT JOIN tasks t ON t.key = a.task_key ");

fn approval(row: &mut Columns) -> Result<Approval> {
    Ok(Approval {
        key: row.take()?,
        id: row.take()?,
        run_id: row.take()?,
        task_id: row.take()?,
        source: row.take()?,
        verdict: row.take()?,
        rationale: row.take()?,
        payload: row.take()?,
        decide_time: row.take()?,
        revision: row.take()?,
        create_time: row.take()?,
    })
}

/// Adds an approval.
pub fn insert(tx: &mut dyn Tx, run_key: Key, task_key: Option<Key>, approval: &Approval) -> Result<()> {
    let sql = "INSERT INTO approvals (key, id, run_key, task_key, source, verdict, rationale, payload, decide_time,
            revision, create_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    tx.execute(
        sql,
        params![
            approval.key,
            approval.id,
            run_key,
            task_key,
            approval.source,
            approval.verdict,
            approval.rationale,
            approval.payload,
            approval.decide_time,
            approval.revision,
            approval.create_time,
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
    let sql = match filter.run_key {
        Some(_) => select!(
            "WHERE a.key > $1 AND ((1 << a.verdict) & $2) <> 0 AND ($3 = '' OR a.source = $3) AND a.run_key = $4
            ORDER BY a.key"
        ),
        None => select!(
            "WHERE a.key > $1 AND ((1 << a.verdict) & $2) <> 0 AND ($3 = '' OR a.source = $3) AND $4 = 0
            ORDER BY a.key"
        ),
    };
    let source = filter.source.as_deref().unwrap_or_default();
    let run_key = filter.run_key.unwrap_or_default();
    page(tx, sql, params![after, filter.verdicts, source, run_key], limit, approval)
}
