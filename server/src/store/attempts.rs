//! This module reads and writes the table `task_attempts`.

use super::table::{select, table};
use super::tasks_ahead::keep_tasks;
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
    joined "JOIN live_runs r ON r.key = a.run_key JOIN tasks t ON t.key = a.task_key" { run_id: "r.id", task_id: "t.id" }
}

/// Appends a WHERE clause to a statement. The clause selects the attempt that the claim with the lease token `$2`
/// opened for the task `$1`. The search starts at the newest attempt, because a task that was often released can have
/// thousands of attempts and the selected attempt is usually one of the newest.
macro_rules! of_claim {
    ($statement:literal) => {
        concat!(
            $statement,
            " WHERE key = (SELECT key FROM task_attempts WHERE task_key = $1 AND lease_token = $2
                ORDER BY key DESC LIMIT 1)"
        )
    };
}

/// Inserts a new attempt. `lease_token` is the lease token of the claim that opens the attempt, or None if no claim
/// opens the attempt.
pub fn insert(
    tx: &mut dyn Tx,
    run_key: Key,
    task_key: Key,
    attempt: &TaskAttempt,
    lease_token: Option<&str>,
) -> Result<()> {
    insert_row(tx, run_key, task_key, lease_token, attempt)
}

/// Opens the attempt of a claim and returns the key of the attempt. `task` is the task after the claim.
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
    keep_tasks(tx, Some(task), |tx| insert(tx, task.run_key, task.key, &attempt, find_lease_token(task)))?;
    Ok(attempt.key)
}

/// Ends the current attempt of a task. `task` is the task before the attempt ends. If the summary, the blocker
/// signature or the result is empty in `ending`, the attempt keeps the recorded value of this field.
pub fn end(tx: &mut dyn Tx, task: &Task, ending: &Ending) -> Result<()> {
    let sql = of_claim!(
        "UPDATE task_attempts SET status = $3, summary = COALESCE($4, summary),
            blocker_signature = COALESCE($5, blocker_signature), result = COALESCE($6, result), end_time = $7"
    );
    let status = ending.to.attempt_status();
    let summary = ending.summary.as_deref().filter(|summary| !summary.is_empty());
    let result = Some(&ending.result).filter(|result| **result != Json::null());
    let now = tx.now();
    let token = find_lease_token(task);
    keep_tasks(tx, Some(task), |tx| {
        tx.write(sql, params![task.key, token, status, summary, ending.blocker_signature, result, now])
    })
}

/// Ends the current attempt of a leased task without a report from the lease holder. Only the status and the end time
/// of the attempt change.
pub fn end_without_report(tx: &mut dyn Tx, task: &Task, status: AttemptStatus) -> Result<()> {
    let sql = of_claim!("UPDATE task_attempts SET status = $3, end_time = $4");
    let now = tx.now();
    tx.write(sql, params![task.key, find_lease_token(task), status, now])
}

/// Updates the attempt of a task that has the attempt number of `report`, and returns the updated attempt. Returns None
/// if no claim opened an attempt with this number. Also returns None if `report` has the status RUNNING and the attempt
/// has ended, because a report must not reopen an ended attempt.
pub fn update_claimed(tx: &mut dyn Tx, task_key: Key, report: &AttemptReport) -> Result<Option<TaskAttempt>> {
    let sql = "UPDATE task_attempts SET status = $3, summary = $4, blocker_signature = $5, result = $6,
            end_time = CASE WHEN CAST($7 AS BIGINT) IS NULL THEN NULL ELSE COALESCE(end_time, $7) END
        WHERE task_key = $1 AND attempt_number = $2 AND lease_token IS NOT NULL
            AND (CAST($7 AS BIGINT) IS NOT NULL OR end_time IS NULL)
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
    key.map(|key| get_by_key(tx, key)).transpose()
}

fn find_lease_token(task: &Task) -> Option<&str> {
    task.lease.as_ref().map(|lease| lease.token.as_str())
}

/// Sets the current attempt of a task to RUNNING again after a heartbeat has renewed the expired lease of the task.
/// `task` is the task after the heartbeat.
pub fn reopen(tx: &mut dyn Tx, task: &Task) -> Result<()> {
    let sql = of_claim!("UPDATE task_attempts SET status = $3, end_time = NULL");
    tx.write(sql, params![task.key, find_lease_token(task), AttemptStatus::Running])
}

/// Stores `progress`, which the lease holder has reported, in the current attempt of a task.
pub fn save_progress(tx: &mut dyn Tx, task: &Task, progress: &Json) -> Result<()> {
    let sql = of_claim!("UPDATE task_attempts SET progress = $3");
    tx.write(sql, params![task.key, find_lease_token(task), progress])
}

/// Returns the attempt number and the agent id of the claim with the lease token `token`, or None if no claim of the
/// task had this token.
pub fn find_claim(tx: &mut dyn Tx, task_key: Key, token: &str) -> Result<Option<(i32, Option<String>)>> {
    let sql = of_claim!("SELECT attempt_number, agent_id FROM task_attempts");
    first(tx, sql, params![task_key, token], |row| Ok((row.take()?, row.take()?)))
}

/// Returns the attempt with the key `key`. Fails with an internal error if the attempt does not exist.
pub fn get_by_key(tx: &mut dyn Tx, key: Key) -> Result<TaskAttempt> {
    let found = first(tx, select!("WHERE a.key = $1"), params![key], read_row)?;
    found.ok_or_else(|| {
        Error::internal(format!("table `task_attempts` has no attempt with the key {key}: report the bug"))
    })
}

/// Returns a page of the attempts of a task, newest first.
pub fn list_newest_of_task(tx: &mut dyn Tx, task_key: Key, limit: Limit) -> Result<Page<TaskAttempt>> {
    page(
        tx,
        select!("WHERE a.task_key = $1 ORDER BY a.key DESC LIMIT $2 OFFSET $3"),
        params![task_key],
        limit,
        read_row,
    )
}

/// Returns a page of the attempts of a run, newest first.
pub fn list_newest_of_run(tx: &mut dyn Tx, run_key: Key, limit: Limit) -> Result<Page<TaskAttempt>> {
    page(tx, select!("WHERE a.run_key = $1 ORDER BY a.key DESC LIMIT $2 OFFSET $3"), params![run_key], limit, read_row)
}
