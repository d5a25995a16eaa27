//! Table `task_attempts`.

use super::table::{select, table};
use super::{Limit, Page, Tx, first, page, params};
use crate::domain::Key;
use crate::domain::attempt::{AttemptReport, AttemptStatus, TaskAttempt};
use crate::domain::json::Json;
use crate::domain::task::{Ending, Task};
use crate::error::{Error, Result};

table! {
    task_attempts a, attempt: TaskAttempt;
    fixed {
        key, id, attempt_number, agent_id, status, summary, blocker_signature, result, progress, create_time, end_time,
    }
    given { run_key: Key, task_key: Key, lease_token: Option<&str> }
    joined "JOIN runs r ON r.key = a.run_key JOIN tasks t ON t.key = a.task_key" { run_id: "r.id", task_id: "t.id" }
}

/// Continues a statement with the attempt of the task `$1` that the claim with the lease token `$2` opened. The search
/// begins at the newest attempt: the attempt is one of the newest, and a task that is released again and again has
/// thousands.
macro_rules! of_claim {
    ($statement:literal) => {
        concat!(
            $statement,
            " WHERE key = (SELECT key FROM task_attempts WHERE task_key = $1 AND lease_token = $2
                ORDER BY key DESC LIMIT 1)"
        )
    };
}

/// Adds an attempt. `lease_token` is that of the claim that opens it; None if no claim does.
pub fn insert(
    tx: &mut dyn Tx,
    run_key: Key,
    task_key: Key,
    attempt: &TaskAttempt,
    lease_token: Option<&str>,
) -> Result<()> {
    insert_row(tx, run_key, task_key, lease_token, attempt)
}

/// Opens the attempt of a claim and returns its key. `task` is the task after the claim.
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

/// Ends the attempt of a claim. `task` is the task before that. What `ending` leaves empty stays as it was recorded.
pub fn end(tx: &mut dyn Tx, task: &Task, ending: &Ending) -> Result<()> {
    let sql = of_claim!(
        "UPDATE task_attempts SET status = $3, summary = COALESCE($4, summary),
            blocker_signature = COALESCE($5, blocker_signature), result = COALESCE($6, result), end_time = $7"
    );
    let status = ending.to.attempt();
    let summary = ending.summary.as_deref().filter(|summary| !summary.is_empty());
    let result = Some(&ending.result).filter(|result| **result != Json::null());
    let now = tx.now();
    tx.write(sql, params![task.key, token(task), status, summary, ending.blocker_signature, result, now])
}

/// Ends the attempt of a live claim by a change of its task that is not the holder's. What was recorded stays.
pub fn cut_off(tx: &mut dyn Tx, task: &Task, status: AttemptStatus) -> Result<()> {
    let sql = of_claim!("UPDATE task_attempts SET status = $3, end_time = $4");
    let now = tx.now();
    tx.write(sql, params![task.key, token(task), status, now])
}

/// Updates the attempt with the number of a report, if a claim opened it; returns None otherwise. A report that the
/// attempt is running does not reopen one that has ended.
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
        end_time,
    ];
    let key: Option<Key> = first(tx, sql, bound, |row| row.take())?;
    key.map(|key| by_key(tx, key)).transpose()
}

fn token(task: &Task) -> Option<&str> {
    task.lease.as_ref().map(|lease| lease.token.as_str())
}

/// Reopens the attempt of an expired lease whose holder has reported after all. `task` is the task after that.
pub fn resume(tx: &mut dyn Tx, task: &Task) -> Result<()> {
    let sql = of_claim!("UPDATE task_attempts SET status = $3, end_time = NULL");
    tx.write(sql, params![task.key, token(task), AttemptStatus::Running])
}

/// Records the progress that the holder of a task reports.
pub fn note_progress(tx: &mut dyn Tx, task: &Task, progress: &Json) -> Result<()> {
    let sql = of_claim!("UPDATE task_attempts SET progress = $3");
    tx.write(sql, params![task.key, token(task), progress])
}

/// Returns the newest attempt of a task before another attempt, or None if there is none.
pub fn newest_before(tx: &mut dyn Tx, task_key: Key, before: Key) -> Result<Option<TaskAttempt>> {
    let sql = select!("WHERE a.task_key = $1 AND a.key < $2 ORDER BY a.key DESC LIMIT 1");
    first(tx, sql, params![task_key, before], read_row)
}

/// Returns the attempt number and the agent of the claim of a lease token, or None if no claim of this task had it.
pub fn of_token(tx: &mut dyn Tx, task_key: Key, token: &str) -> Result<Option<(i32, Option<String>)>> {
    let sql = of_claim!("SELECT attempt_number, agent_id FROM task_attempts");
    first(tx, sql, params![task_key, token], |row| Ok((row.take()?, row.take()?)))
}

fn by_key(tx: &mut dyn Tx, key: Key) -> Result<TaskAttempt> {
    let found = first(tx, select!("WHERE a.key = $1"), params![key], read_row)?;
    found.ok_or_else(|| Error::internal(format!("no attempt has the key {key}")))
}

/// Returns the newest attempts of a task, the newest first.
pub fn newest_of_task(tx: &mut dyn Tx, task_key: Key, limit: Limit) -> Result<Page<TaskAttempt>> {
    page(tx, select!("WHERE a.task_key = $1 ORDER BY a.key DESC"), params![task_key], limit, read_row)
}

/// Returns the newest attempts of a run, the newest first.
pub fn newest_of_run(tx: &mut dyn Tx, run_key: Key, limit: Limit) -> Result<Page<TaskAttempt>> {
    page(tx, select!("WHERE a.run_key = $1 ORDER BY a.key DESC"), params![run_key], limit, read_row)
}
