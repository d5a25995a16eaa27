//! Table `tasks`.

use super::column::json_text;
use super::{Columns, Limit, Page, Tx, all, first, page, params, rows_of};
use crate::domain::Key;
use crate::domain::lease::Lease;
use crate::domain::plan::ExistingTask;
use crate::domain::task::{Task, TaskSpec, TaskStatus};
use crate::domain::time::Timestamp;
use crate::error::{Error, Resource, Result};

rows_of!($ "SELECT t.key, t.id, t.run_key, r.id, t.ordinal, t.title, t.objective, t.acceptance_criteria,
        t.verification_steps, t.allowed_paths, t.required_capabilities, t.priority, t.labels, t.max_attempts,
        t.not_before_time, t.depends_on, t.path_set_key, t.status, t.attempt_count, t.failure_count,
        t.implementation_summary, t.blocker_signature, t.agent_id, t.lease_token, t.lease_duration,
        t.lease_expire_time, t.open_dependencies, t.plan_version, t.revision, t.create_time, t.update_time
    FROM tasks t JOIN runs r ON r.key = t.run_key ");

fn task(row: &mut Columns) -> Result<Task> {
    Ok(Task {
        key: row.take()?,
        id: row.take()?,
        run_key: row.take()?,
        run_id: row.take()?,
        ordinal: row.take()?,
        spec: TaskSpec {
            title: row.take()?,
            objective: row.take()?,
            acceptance_criteria: row.take()?,
            verification_steps: row.take()?,
            allowed_paths: row.take()?,
            required_capabilities: row.take()?,
            priority: row.take()?,
            labels: row.take()?,
            max_attempts: row.take()?,
            not_before_time: row.take()?,
        },
        depends_on: row.take()?,
        path_set_key: row.take()?,
        status: row.take()?,
        attempt_count: row.take()?,
        failure_count: row.take()?,
        implementation_summary: row.take()?,
        blocker_signature: row.take()?,
        agent_id: row.take()?,
        lease: lease(row)?,
        open_dependencies: row.take()?,
        plan_version: row.take()?,
        revision: row.take()?,
        create_time: row.take()?,
        update_time: row.take()?,
    })
}

fn lease(row: &mut Columns) -> Result<Option<Lease>> {
    let (token, duration, expire_time) = (row.take()?, row.take()?, row.take()?);
    Ok(match (token, duration, expire_time) {
        (Some(token), Some(duration), Some(expire_time)) => Some(Lease { token, duration, expire_time }),
        _ => None,
    })
}

/// The task with this id.
pub fn get(tx: &mut dyn Tx, id: &str) -> Result<Task> {
    let found = first(tx, select!("WHERE t.id = $1"), params![id], task)?;
    found.ok_or_else(|| Error::not_found(Resource::Task, id))
}

/// The task with this key, unless it was deleted.
pub fn find_by_key(tx: &mut dyn Tx, key: Key) -> Result<Option<Task>> {
    first(tx, select!("WHERE t.key = $1"), params![key], task)
}

/// The task with this key.
pub fn by_key(tx: &mut dyn Tx, key: Key) -> Result<Task> {
    find_by_key(tx, key)?.ok_or_else(|| Error::internal(format!("no task has the key {key}")))
}

/// The task with this lease, live or run out.
pub fn by_lease(tx: &mut dyn Tx, token: &str) -> Result<Option<Task>> {
    first(tx, select!("WHERE t.lease_token = $1"), params![token], task)
}

/// The key of a task of this run: a task of another run is not found.
pub fn key_in_run(tx: &mut dyn Tx, run_key: Key, id: &str) -> Result<Key> {
    let found = find_in_run(tx, run_key, id)?;
    found.map(|task| task.key).ok_or_else(|| Error::not_found(Resource::Task, id))
}

/// A task of this run, as far as a plan needs to know it.
pub fn find_in_run(tx: &mut dyn Tx, run_key: Key, id: &str) -> Result<Option<ExistingTask>> {
    first(tx, "SELECT key, status FROM tasks WHERE id = $1 AND run_key = $2", params![id, run_key], |row| {
        Ok(ExistingTask { key: row.take()?, status: row.take()? })
    })
}

/// A task with this id is there, in whatever run.
pub fn exists(tx: &mut dyn Tx, id: &str) -> Result<bool> {
    Ok(first(tx, "SELECT key FROM tasks WHERE id = $1", params![id], |row| row.take::<Key>())?.is_some())
}

/// Adds a task, which nobody has a lease of yet.
pub fn insert(tx: &mut dyn Tx, task: &Task) -> Result<()> {
    let sql = "INSERT INTO tasks (key, id, run_key, ordinal, title, objective, acceptance_criteria,
            verification_steps, allowed_paths, required_capabilities, priority, labels, max_attempts,
            not_before_time, depends_on, status, attempt_count, failure_count, implementation_summary,
            blocker_signature, agent_id, path_set_key, open_dependencies, plan_version, revision, create_time,
            update_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
            $22, $23, $24, $25, $26, $27)";
    let spec = &task.spec;
    let list = |entries: &Vec<String>| json_text(entries);
    tx.execute(
        sql,
        params![
            task.key,
            task.id,
            task.run_key,
            task.ordinal,
            spec.title,
            spec.objective,
            list(&spec.acceptance_criteria)?,
            list(&spec.verification_steps)?,
            list(&spec.allowed_paths)?,
            list(&spec.required_capabilities)?,
            spec.priority,
            json_text(&spec.labels)?,
            spec.max_attempts,
            spec.not_before_time,
            list(&task.depends_on)?,
            task.status,
            task.attempt_count,
            task.failure_count,
            task.implementation_summary,
            task.blocker_signature,
            task.agent_id,
            task.path_set_key,
            task.open_dependencies,
            task.plan_version,
            task.revision,
            task.create_time,
            task.update_time,
        ],
    )
    .map(drop)
}

/// Writes what of a task can change, except `open_dependencies`.
pub fn save(tx: &mut dyn Tx, task: &Task) -> Result<()> {
    let sql = "UPDATE tasks SET status = $2, attempt_count = $3, failure_count = $4, implementation_summary = $5,
            blocker_signature = $6, agent_id = $7, lease_token = $8, lease_duration = $9, lease_expire_time = $10,
            not_before_time = $11, revision = $12, update_time = $13
        WHERE key = $1";
    let lease = task.lease.as_ref();
    tx.execute(
        sql,
        params![
            task.key,
            task.status,
            task.attempt_count,
            task.failure_count,
            task.implementation_summary,
            task.blocker_signature,
            task.agent_id,
            lease.map(|lease| &lease.token),
            lease.map(|lease| lease.duration),
            lease.map(|lease| lease.expire_time),
            task.spec.not_before_time,
            task.revision,
            task.update_time,
        ],
    )
    .map(drop)
}

/// Ends a lease that ran out before `now`, unless its holder was heard of meanwhile; says whether it did. `task` is as it
/// is after that.
pub fn expire(tx: &mut dyn Tx, task: &Task, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE tasks SET status = $3, failure_count = $4, blocker_signature = $5, agent_id = NULL,
            lease_token = $6, revision = $7, update_time = $8
        WHERE key = $1 AND status = 2 AND lease_expire_time <= $2";
    let lease_token = task.lease.as_ref().map(|lease| lease.token.as_str());
    let changed = tx.execute(
        sql,
        params![
            task.key,
            now,
            task.status,
            task.failure_count,
            task.blocker_signature,
            lease_token,
            task.revision,
            task.update_time,
        ],
    )?;
    Ok(changed > 0)
}

/// Moves the end of a live lease: no change of the task itself.
pub fn extend(tx: &mut dyn Tx, key: Key, expire_time: Timestamp) -> Result<()> {
    tx.execute("UPDATE tasks SET lease_expire_time = $2 WHERE key = $1", params![key, expire_time]).map(drop)
}

/// Somebody holds a task of this run. 2 is IN_PROGRESS.
pub fn any_held(tx: &mut dyn Tx, run_key: Key) -> Result<bool> {
    let sql = "SELECT key FROM tasks WHERE run_key = $1 AND status = 2 LIMIT 1";
    Ok(first(tx, sql, params![run_key], |row| row.take::<Key>())?.is_some())
}

/// All tasks of a run with this status, in plan order.
pub fn with_status(tx: &mut dyn Tx, run_key: Key, status: TaskStatus) -> Result<Vec<Task>> {
    let sql = select!("WHERE t.run_key = $1 AND t.status = $2 ORDER BY t.ordinal");
    all(tx, sql, params![run_key, status], task)
}

/// The newest tasks of a run with this status, the newest first.
pub fn newest_with_status(tx: &mut dyn Tx, run_key: Key, status: TaskStatus, limit: Limit) -> Result<Page<Task>> {
    let sql = select!("WHERE t.run_key = $1 AND t.status = $2 ORDER BY t.ordinal DESC");
    page(tx, sql, params![run_key, status], limit, task)
}

/// Tasks of a run in plan order, after an ordinal.
pub fn list(tx: &mut dyn Tx, run_key: Key, after: i64, limit: Limit) -> Result<Page<Task>> {
    let sql = select!("WHERE t.run_key = $1 AND t.ordinal > $2 ORDER BY t.ordinal");
    page(tx, sql, params![run_key, after], limit, task)
}

/// The same of those with one of these statuses: a list for each, which the index has in order, become one.
pub fn list_with_statuses(
    tx: &mut dyn Tx,
    run_key: Key,
    statuses: &[TaskStatus],
    after: i64,
    limit: Limit,
) -> Result<Page<Task>> {
    let sql = select!("WHERE t.run_key = $1 AND t.status = $3 AND t.ordinal > $2 ORDER BY t.ordinal");
    let mut merged = Page { rows: Vec::new(), is_last: true };
    let mut complete_up_to = i32::MAX;
    for status in statuses {
        let found = page(tx, sql, params![run_key, after, status], limit, task)?;
        if let Some(last) = found.rows.last().filter(|_| !found.is_last) {
            complete_up_to = complete_up_to.min(last.ordinal);
        }
        merged.rows.extend(found.rows);
    }
    let all = merged.rows.len();
    merged.rows.retain(|task| task.ordinal <= complete_up_to);
    merged.rows.sort_by_key(|task| task.ordinal);
    merged.rows.truncate(limit.rows);
    merged.is_last = complete_up_to == i32::MAX && merged.rows.len() == all;
    Ok(merged)
}
