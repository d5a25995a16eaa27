//! This module reads and writes the table `tasks`.

use std::time::Duration;

use super::column::json_text;
use super::names::{ready, task_status};
use super::ready::TaskClass;
use super::runs::{self, ClaimState, claim_state_columns};
use super::table::{select, select_with, table};
use super::tasks_ahead::keep_tasks;
use super::{Columns, Limit, Page, Tx, all, any, dependencies, first, page, params, path_sets, row_limit};
use crate::domain::Key;
use crate::domain::lease::Lease;
use crate::domain::plan::{Dependency, ExistingTask};
use crate::domain::task::{Task, TaskSpec, TaskStatus};
use crate::domain::time::Timestamp;
use crate::error::{Error, Resource, Result};

table! {
    tasks t, task: Task;
    fixed {
        key, id, run_key, ordinal, path_set_key, capability_set_key, open_dependencies, plan_version, create_time,
        title = task.spec.title,
        objective = task.spec.objective,
        acceptance_criteria = json_text(&task.spec.acceptance_criteria)?,
        verification_steps = json_text(&task.spec.verification_steps)?,
        allowed_paths = json_text(&task.spec.allowed_paths)?,
        required_capabilities = json_text(&task.spec.required_capabilities)?,
        priority = task.spec.priority,
        labels = json_text(&task.spec.labels)?,
        max_attempts = task.spec.max_attempts,
        depends_on = json_text(&task.depends_on)?,
    }
    saved {
        status, attempt_count, failure_count, implementation_summary, blocker_signature, agent_id, revision,
        update_time, is_delayed, has_retry_delay,
        not_before_time = task.spec.not_before_time,
        lease_token = find_lease_token(task),
        lease_duration = task.lease.as_ref().map(|lease| lease.duration),
        lease_expire_time = task.lease.as_ref().map(|lease| lease.expire_time),
    }
    given { claim_version: i64 }
    joined "JOIN live_runs r ON r.key = t.run_key" { run_id: "r.id" }
    read {
        key, id, run_key, run_id, ordinal, depends_on, path_set_key, capability_set_key, status, is_delayed,
        has_retry_delay, attempt_count, failure_count, implementation_summary, blocker_signature, agent_id,
        open_dependencies, plan_version, revision, create_time, update_time,
        spec: TaskSpec {
            title, objective, acceptance_criteria, verification_steps, allowed_paths, required_capabilities, priority,
            labels, max_attempts, not_before_time,
        },
        lease: build_lease(lease_token, lease_duration, lease_expire_time),
    }
}

fn find_lease_token(task: &Task) -> Option<&str> {
    task.lease.as_ref().map(|lease| lease.token.as_str())
}

fn build_lease(token: Option<String>, duration: Option<Duration>, expire_time: Option<Timestamp>) -> Option<Lease> {
    Some(Lease { token: token?, duration: duration?, expire_time: expire_time? })
}

/// Returns the task with the id `id`. Fails with NotFound if no task has this id.
pub fn get(tx: &mut dyn Tx, id: &str) -> Result<Task> {
    let found = first(tx, select!("WHERE t.id = $1"), params![id], read_row)?;
    found.ok_or_else(|| Error::not_found(Resource::Task, id))
}

/// Returns the task with the key `key`, or None if the task's run was deleted.
pub fn find_by_key(tx: &mut dyn Tx, key: Key) -> Result<Option<Task>> {
    first(tx, select!("WHERE t.key = $1"), params![key], read_row)
}

/// Returns the task with the key `key`. Fails with an internal error if the task does not exist.
pub fn get_by_key(tx: &mut dyn Tx, key: Key) -> Result<Task> {
    find_by_key(tx, key)?
        .ok_or_else(|| Error::internal(format!("table `tasks` has no task with the key {key}: report the bug")))
}

/// Expands to the query for tasks, and for whether another task depends on each, that meet a condition.
macro_rules! with_dependents {
    ($condition:literal) => {
        select_with!("(SELECT d.task_key FROM task_dependencies d WHERE d.depends_on_key = t.key LIMIT 1)", $condition)
    };
}

/// Query for the tasks whose ids are in a list, except large tasks: a group has up to 128 calls, and a task up to 3 MiB.
/// SQLite has no lists.
pub(super) const SMALL_WITH_IDS: &str = with_dependents!(
    "WHERE t.id = ANY($1) AND octet_length(t.objective) + octet_length(t.acceptance_criteria)
        + octet_length(t.verification_steps) + octet_length(t.allowed_paths) + octet_length(t.labels)
        + octet_length(t.depends_on) + COALESCE(octet_length(t.implementation_summary), 0) < 8192"
);

/// Returns the task with the id `id`, and whether another task depends on it. Fails with NotFound if no task has this id.
pub fn get_with_dependents(tx: &mut dyn Tx, id: &str) -> Result<(Task, bool)> {
    if let Some(found) = tx.cache().tasks_ahead.as_ref().and_then(|ahead| ahead.find(id)) {
        return Ok(found);
    }
    let found = first(tx, with_dependents!("WHERE t.id = $1"), params![id], read_with_dependents)?;
    found.ok_or_else(|| Error::not_found(Resource::Task, id))
}

/// Returns a task, and whether another task depends on it.
pub(super) fn read_with_dependents(row: &mut Columns) -> Result<(Task, bool)> {
    let task = read_row(row)?;
    Ok((task, row.take::<Option<Key>>()?.is_some()))
}

/// A ready task, and its newest attempt.
#[derive(Debug, Clone)]
pub struct ReadyTask {
    /// The task.
    pub task: Task,
    /// Key of the newest attempt of the task. If the task has no attempt, the value is None.
    pub newest_attempt_key: Option<Key>,
}

/// Returns the first ready task of a class in claim order, or None if the class has no ready task. A transaction that
/// asks again for tasks of the same class reads several tasks ahead.
pub fn find_first_ready(tx: &mut dyn Tx, class: &TaskClass) -> Result<Option<ReadyTask>> {
    let Some(ahead) = &mut tx.cache().tasks_ahead else {
        return Ok(list_first_ready(tx, class, 1)?.0.pop());
    };
    if let Some(found) = ahead.find_first_ready(class) {
        return Ok(Some(found));
    }
    let limit = ahead.next_limit(class);
    let (mut found, largest) = list_first_ready(tx, class, limit)?;
    // A copy of a single task would be of no use, and a task can be large.
    let first = if found.len() > 1 { found.first().cloned() } else { found.pop() };
    if let Some(ahead) = &mut tx.cache().tasks_ahead {
        ahead.set_ready(class, found, largest);
    }
    Ok(first)
}

/// Expands to the query for ready tasks of a class in claim order, and for the newest attempt of each. The arguments are
/// the condition for the path set, the placeholder of the limit, and more columns after a comma, or an empty text.
macro_rules! ready_of_class {
    ($path_set:literal, $limit:literal, $columns:expr) => {
        select_with!(
            concat!("(SELECT MAX(a.key) FROM task_attempts a WHERE a.task_key = t.key)", $columns),
            "WHERE t.run_key = $1 AND t.capability_set_key = $2 AND t.path_set_key ",
            $path_set,
            " AND ",
            ready!("t."),
            " ORDER BY t.priority DESC, t.ordinal LIMIT ",
            $limit
        )
    };
}

/// Returns the first ready task of a class in claim order, and the claim state of its run. Returns None if the class has
/// no ready task, or if the run was deleted. One query reads both, for claims that have not read the run.
pub fn find_first_ready_with_run(tx: &mut dyn Tx, class: &TaskClass) -> Result<Option<(ReadyTask, ClaimState)>> {
    let without_paths = ready_of_class!("IS NULL", "$3", concat!(", ", claim_state_columns!()));
    let with_paths = ready_of_class!("= $3", "$4", concat!(", ", claim_state_columns!()));
    let TaskClass { run_key, capability_set_key, path_set_key } = class;
    let limit = row_limit(1);
    let read = |row: &mut Columns| Ok((read_ready_task(row)?, runs::read_claim_state(row)?));
    let found = match path_set_key {
        None => first(tx, without_paths, params![run_key, capability_set_key, limit], read),
        Some(set) => first(tx, with_paths, params![run_key, capability_set_key, set, limit], read),
    }?;
    Ok(found.map(|(ready, run)| (ready, run.with_changes_of(tx))))
}

/// Returns at most `limit` ready tasks of a class, in claim order, and the size of the largest in bytes.
fn list_first_ready(tx: &mut dyn Tx, class: &TaskClass, limit: usize) -> Result<(Vec<ReadyTask>, usize)> {
    let without_paths = ready_of_class!("IS NULL", "$3", "");
    let with_paths = ready_of_class!("= $3", "$4", "");
    let TaskClass { run_key, capability_set_key, path_set_key } = class;
    let limit = row_limit(limit);
    let read = |row: &mut Columns| Ok((read_ready_task(row)?, row.bytes()));
    let found = match path_set_key {
        None => all(tx, without_paths, params![run_key, capability_set_key, limit], read),
        Some(set) => all(tx, with_paths, params![run_key, capability_set_key, set, limit], read),
    }?;
    let largest = found.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
    Ok((found.into_iter().map(|(ready, _)| ready).collect(), largest))
}

fn read_ready_task(row: &mut Columns) -> Result<ReadyTask> {
    Ok(ReadyTask { task: read_row(row)?, newest_attempt_key: row.take()? })
}

/// Returns the task whose lease has the token `token`, even if the lease has expired. Returns None if the token is
/// stale.
pub fn find_by_lease(tx: &mut dyn Tx, token: &str) -> Result<Option<Task>> {
    first(tx, select!("WHERE t.lease_token = $1"), params![token], read_row)
}

/// Returns the key of the task with the id `id` in a run. Fails with NotFound if the run has no task with this id.
pub fn get_key_in_run(tx: &mut dyn Tx, run_key: Key, id: &str) -> Result<Key> {
    let found = find_in_run(tx, run_key, id)?;
    found.map(|task| task.key).ok_or_else(|| Error::not_found(Resource::Task, id))
}

/// Returns the key and status of the task with the id `id` in a run, or None if the run has no task with this id.
pub fn find_in_run(tx: &mut dyn Tx, run_key: Key, id: &str) -> Result<Option<ExistingTask>> {
    first(tx, "SELECT key, status FROM tasks WHERE id = $1 AND run_key = $2", params![id, run_key], |row| {
        Ok(ExistingTask { key: row.take()?, status: row.take()? })
    })
}

/// Returns whether any run has a task with the id `id`.
pub fn exists(tx: &mut dyn Tx, id: &str) -> Result<bool> {
    any(tx, "SELECT t.key FROM tasks t JOIN live_runs r ON r.key = t.run_key WHERE t.id = $1", params![id])
}

/// Inserts a new task without the task's dependencies.
pub fn insert(tx: &mut dyn Tx, task: &Task) -> Result<()> {
    let claim_version = tx.next_claim_version()?;
    insert_row(tx, claim_version, task)
}

/// Inserts tasks and their dependencies, and sets `depends_on` and `open_dependencies` of each task. A task can depend
/// on another task in `added`. Fails if a dependency does not exist.
pub fn insert_with_dependencies(tx: &mut dyn Tx, added: &mut [Task], dependencies: &[Vec<Dependency>]) -> Result<()> {
    for (at, depends_on) in dependencies.iter().enumerate() {
        for dependency in depends_on {
            let (id, status) = get_id_and_status(tx, *dependency, added)?;
            added[at].depends_on.push(id);
            added[at].open_dependencies += i32::from(status != TaskStatus::Completed);
        }
    }
    for task in added.iter() {
        insert(tx, task)?;
    }
    // Insert the dependencies after all tasks, because a task can depend on a later task.
    for (task, depends_on) in added.iter().zip(dependencies) {
        for dependency in depends_on {
            let depends_on_key = match dependency {
                Dependency::Draft(other) => added[*other].key,
                Dependency::Task(key) => *key,
            };
            dependencies::insert(tx, task.key, depends_on_key)?;
        }
    }
    Ok(())
}

fn get_id_and_status(tx: &mut dyn Tx, dependency: Dependency, added: &[Task]) -> Result<(String, TaskStatus)> {
    match dependency {
        Dependency::Draft(other) => Ok((added[other].id.clone(), added[other].status)),
        Dependency::Task(key) => get_by_key(tx, key).map(|task| (task.id, task.status)),
    }
}

/// Updates the mutable columns of a task, except `open_dependencies`. If the task can become claimable, or if the lease
/// of the task can cause path conflicts, the function also records the change for the claim index.
pub fn save(tx: &mut dyn Tx, task: &Task) -> Result<()> {
    if task.status == TaskStatus::Pending {
        save_row(tx, task)?;
        return record_status(tx, task);
    }
    keep_tasks(tx, Some(task), |tx| {
        save_row(tx, task)?;
        record_status(tx, task)
    })
}

fn record_status(tx: &mut dyn Tx, task: &Task) -> Result<()> {
    match (task.status, task.path_set_key) {
        (TaskStatus::Pending, _) => {
            let version = tx.next_claim_version()?;
            tx.write("UPDATE tasks SET claim_version = $2 WHERE key = $1", params![task.key, version])
        }
        (TaskStatus::InProgress, Some(set)) => path_sets::record_lease_change(tx, set),
        _ => Ok(()),
    }
}

/// Takes back a lease that has expired by `now`, and stores `task`, which is the state of the task after the lease has
/// expired. If the lease holder has extended the lease beyond `now` or has ended the attempt, the function changes
/// nothing. Returns whether the lease was taken back.
pub fn expire_lease(tx: &mut dyn Tx, task: &Task, now: Timestamp) -> Result<bool> {
    let sql = concat!(
        "UPDATE tasks SET status = $3, failure_count = $4, blocker_signature = $5, agent_id = NULL,
            lease_token = $6, revision = $7, update_time = $8, is_delayed = $9
        WHERE key = $1 AND status = ",
        task_status!(IN_PROGRESS),
        " AND lease_expire_time <= $2"
    );
    let lease_token = find_lease_token(task);
    let bound = params![
        task.key,
        now,
        task.status,
        task.failure_count,
        task.blocker_signature,
        lease_token,
        task.revision,
        task.update_time,
        task.is_delayed,
    ];
    let is_expired = tx.execute(sql, bound)? > 0;
    if is_expired {
        record_status(tx, task)?;
    }
    Ok(is_expired)
}

/// Sets the expiry time of a task's live lease. The revision of the task does not change.
pub fn extend_lease(tx: &mut dyn Tx, key: Key, expire_time: Timestamp) -> Result<()> {
    tx.write("UPDATE tasks SET lease_expire_time = $2 WHERE key = $1", params![key, expire_time])
}

/// Returns whether a run has a task in progress.
pub fn has_task_in_progress(tx: &mut dyn Tx, run_key: Key) -> Result<bool> {
    let sql = concat!("SELECT key FROM tasks WHERE run_key = $1 AND status = ", task_status!(IN_PROGRESS), " LIMIT 1");
    any(tx, sql, params![run_key])
}

/// Returns whether a run has more than `count` open tasks, which are pending, in progress or blocked.
pub fn has_more_open_tasks(tx: &mut dyn Tx, run_key: Key, count: usize) -> Result<bool> {
    let sql = concat!(
        "SELECT key FROM tasks WHERE run_key = $1 AND status IN (",
        task_status!(PENDING),
        ", ",
        task_status!(IN_PROGRESS),
        ", ",
        task_status!(BLOCKED),
        ") LIMIT 1 OFFSET $2"
    );
    any(tx, sql, params![run_key, row_limit(count)])
}

/// Returns all tasks of a run with the status `status`, in plan order.
pub fn list_with_status(tx: &mut dyn Tx, run_key: Key, status: TaskStatus) -> Result<Vec<Task>> {
    let sql = select!("WHERE t.run_key = $1 AND t.status = $2 ORDER BY t.ordinal");
    all(tx, sql, params![run_key, status], read_row)
}

/// Returns the ordinals of at most `count` tasks of a run with the status `status`, newest first.
pub fn newest_ordinals(tx: &mut dyn Tx, run_key: Key, status: TaskStatus, count: usize) -> Result<Vec<i32>> {
    let sql = "SELECT ordinal FROM tasks WHERE run_key = $1 AND status = $2 ORDER BY ordinal DESC LIMIT $3";
    all(tx, sql, params![run_key, status, row_limit(count)], |row| row.take())
}

/// Returns a page of the tasks of a run that have an ordinal greater than `after`, in plan order.
pub fn list(tx: &mut dyn Tx, run_key: Key, after: i64, limit: Limit) -> Result<Page<Task>> {
    let sql = select!("WHERE t.run_key = $1 AND t.ordinal > $2 ORDER BY t.ordinal LIMIT $3 OFFSET $4");
    page(tx, sql, params![run_key, after], limit, read_row)
}

/// Returns a page of the tasks of a run that have one of the `statuses` and an ordinal greater than `after`, in plan
/// order. The index `tasks_by_status` contains the tasks of each status in plan order, so this function reads one page
/// for each status and merges the pages.
pub fn list_with_statuses(
    tx: &mut dyn Tx,
    run_key: Key,
    statuses: &[TaskStatus],
    after: i64,
    limit: Limit,
) -> Result<Page<Task>> {
    let sql =
        select!("WHERE t.run_key = $1 AND t.status = $3 AND t.ordinal > $2 ORDER BY t.ordinal LIMIT $4 OFFSET $5");
    let mut merged = Page { rows: Vec::new(), is_last: true };
    // If the page of a status does not contain all tasks of the status, the merged page must end at the last ordinal of
    // the status's page. Otherwise the merged page would skip tasks of this status.
    let mut complete_up_to = i32::MAX;
    for status in statuses {
        let found = page(tx, sql, params![run_key, after, status], limit, read_row)?;
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
