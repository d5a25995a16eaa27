//! Table `task_attempts`.

use super::{Columns, Limit, Page, Tx, first, page, params, rows_of};
use crate::domain::Key;
use crate::domain::attempt::{AttemptReport, AttemptStatus, TaskAttempt};
use crate::domain::json::Json;
use crate::domain::task::{Ending, Task};
use crate::error::{Error, Result};

rows_of!($ "SELECT a.key, a.id, r.id, t.id, a.attempt_number, a.agent_id, a.status, a.summary,
        a.blocker_signature, a.result, a.progress, a.create_time, a.end_time
    FROM task_attempts a JOIN runs r ON r.key = a.run_key JOIN tasks t ON t.key = a.task_key ");

/// A statement about the attempt of the task `$1` that the claim with the token `$2` opened. It is one of the newest, and
/// looked for from there: a task that is released again and again has thousands.
macro_rules! of_claim {
    ($statement:literal) => {
        concat!(
            $statement,
            " WHERE key = (SELECT key FROM task_attempts WHERE task_key = $1 AND lease_token = $2
                ORDER BY key DESC LIMIT 1)"
        )
    };
}

fn attempt(row: &mut Columns) -> Result<TaskAttempt> {
    Ok(TaskAttempt {
        key: row.take()?,
        id: row.take()?,
        run_id: row.take()?,
        task_id: row.take()?,
        attempt_number: row.take()?,
        agent_id: row.take()?,
        status: row.take()?,
        summary: row.take()?,
        blocker_signature: row.take()?,
        result: row.take()?,
        progress: row.take()?,
        create_time: row.take()?,
        end_time: row.take()?,
    })
}

/// Adds an attempt.
pub fn insert(
    tx: &mut dyn Tx,
    run_key: Key,
    task_key: Key,
    attempt: &TaskAttempt,
    lease_token: Option<&str>,
) -> Result<()> {
    let sql = "INSERT INTO task_attempts (key, id, run_key, task_key, attempt_number, agent_id, status, summary,
            blocker_signature, result, lease_token, create_time, end_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    tx.execute(
        sql,
        params![
            attempt.key,
            attempt.id,
            run_key,
            task_key,
            attempt.attempt_number,
            attempt.agent_id,
            attempt.status,
            attempt.summary,
            attempt.blocker_signature,
            attempt.result,
            lease_token,
            attempt.create_time,
            attempt.end_time,
        ],
    )
    .map(drop)
}

/// Opens the attempt of a claim; `task` is as it is after the claim. Returns its key.
pub fn open(tx: &mut dyn Tx, task: &Task) -> Result<Key> {
    let attempt = TaskAttempt {
        key: tx.next_key()?,
        id: tx.new_id(),
        run_id: task.run_id.clone(),
        task_id: task.id.clone(),
        attempt_number: task.attempt_count,
        agent_id: task.agent_id.clone(),
        status: AttemptStatus::Running,
        summary: String::new(),
        blocker_signature: None,
        result: Json::null(),
        progress: Json::null(),
        create_time: tx.now(),
        end_time: None,
    };
    insert(tx, task.run_key, task.key, &attempt, token(task))?;
    Ok(attempt.key)
}

/// Ends the attempt of a claim; `task` is as it was before that. What the end brings overwrites what was recorded.
pub fn end(tx: &mut dyn Tx, task: &Task, ending: &Ending) -> Result<()> {
    let sql = of_claim!(
        "UPDATE task_attempts SET status = $3, summary = COALESCE($4, summary),
            blocker_signature = COALESCE($5, blocker_signature), result = COALESCE($6, result), end_time = $7"
    );
    let summary = ending.summary.as_deref().filter(|summary| !summary.is_empty());
    let result = Some(&ending.result).filter(|result| **result != Json::null());
    let status = ending.to.attempt();
    let (token, now) = (token(task), tx.now());
    let bound = params![task.key, token, status, summary, ending.blocker_signature, result, now];
    tx.execute(sql, bound).map(drop)
}

/// Ends the attempt of a live claim without a report of its holder. What was recorded of the attempt stays.
pub fn interrupt(tx: &mut dyn Tx, task: &Task, status: AttemptStatus) -> Result<()> {
    let sql = of_claim!("UPDATE task_attempts SET status = $3, end_time = $4");
    let now = tx.now();
    tx.execute(sql, params![task.key, token(task), status, now]).map(drop)
}

/// Fills in the attempt of this number that a claim opened; None if no claim did. One that has ended is not reopened.
pub fn fill_in(tx: &mut dyn Tx, task_key: Key, report: &AttemptReport) -> Result<Option<TaskAttempt>> {
    let sql = "UPDATE task_attempts SET status = $3, summary = $4, blocker_signature = $5, result = $6,
            end_time = CASE WHEN $7 IS NULL THEN NULL ELSE COALESCE(end_time, $7) END
        WHERE task_key = $1 AND attempt_number = $2 AND lease_token IS NOT NULL
            AND ($7 IS NOT NULL OR end_time IS NULL)
        RETURNING key";
    let end_time = report.end_time(tx.now());
    let bound = params![
        task_key,
        report.attempt_number,
        report.status,
        report.summary,
        report.blocker_signature,
        report.result,
        end_time
    ];
    let key: Option<Key> = first(tx, sql, bound, |row| row.take())?;
    key.map(|key| by_key(tx, key)).transpose()
}

fn token(task: &Task) -> Option<&str> {
    task.lease.as_ref().map(|lease| lease.token.as_str())
}

/// Takes up the attempt of a lease that ran out; `task` is as it is after that.
pub fn resume(tx: &mut dyn Tx, task: &Task) -> Result<()> {
    let sql = of_claim!("UPDATE task_attempts SET status = $3, end_time = NULL");
    tx.execute(sql, params![task.key, token(task), AttemptStatus::Running]).map(drop)
}

/// Keeps what a holder says of how far it is.
pub fn note_progress(tx: &mut dyn Tx, task: &Task, progress: &Json) -> Result<()> {
    let sql = of_claim!("UPDATE task_attempts SET progress = $3");
    tx.execute(sql, params![task.key, token(task), progress]).map(drop)
}

/// The newest attempt of a task before another.
pub fn newest_before(tx: &mut dyn Tx, task_key: Key, before: Key) -> Result<Option<TaskAttempt>> {
    let sql = select!("WHERE a.task_key = $1 AND a.key < $2 ORDER BY a.key DESC LIMIT 1");
    first(tx, sql, params![task_key, before], attempt)
}

/// Which claim of this task a token was given out for: its attempt number and agent.
pub fn of_token(tx: &mut dyn Tx, task_key: Key, token: &str) -> Result<Option<(i32, Option<String>)>> {
    let sql = of_claim!("SELECT attempt_number, agent_id FROM task_attempts");
    first(tx, sql, params![task_key, token], |row| Ok((row.take()?, row.take()?)))
}

fn by_key(tx: &mut dyn Tx, key: Key) -> Result<TaskAttempt> {
    let found = first(tx, select!("WHERE a.key = $1"), params![key], attempt)?;
    found.ok_or_else(|| Error::internal(format!("no attempt has the key {key}")))
}

/// The newest attempts of a task, the newest first.
pub fn newest_of_task(tx: &mut dyn Tx, task_key: Key, limit: Limit) -> Result<Page<TaskAttempt>> {
    page(tx, select!("WHERE a.task_key = $1 ORDER BY a.key DESC"), params![task_key], limit, attempt)
}

/// The newest attempts of a run, the newest first.
pub fn newest_of_run(tx: &mut dyn Tx, run_key: Key, limit: Limit) -> Result<Page<TaskAttempt>> {
    page(tx, select!("WHERE a.run_key = $1 ORDER BY a.key DESC"), params![run_key], limit, attempt)
}
