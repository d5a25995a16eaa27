//! This module finds the ready tasks of a class, and the classes that have ready tasks. The macro `ready!` of the
//! module `names` defines when a task is ready.

use std::cmp::Reverse;

use super::names::ready;
use super::{Columns, SqlValue, Tx, VersionCursor, all, first, params, row_limit};
use crate::domain::Key;
use crate::domain::task::Task;
use crate::error::Result;

/// Identifies the tasks of a run that require equal capabilities and have equal paths. If an agent can't claim the
/// first ready task of a class, the agent can't claim any task of the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskClass {
    /// Key of the run.
    pub run_key: Key,
    /// Key of the capability set, or 0 if the tasks require no capabilities.
    pub capability_set_key: Key,
    /// Key of the path set. If the tasks have no paths, the value is None.
    pub path_set_key: Option<Key>,
}

impl TaskClass {
    /// Returns a class that precedes all classes of a run.
    pub fn before_run(run_key: Key) -> Self {
        Self { run_key, capability_set_key: Key::MIN, path_set_key: None }
    }

    /// Returns a class that follows all classes of a run.
    pub fn after_run(run_key: Key) -> Self {
        Self { run_key, capability_set_key: Key::MAX, path_set_key: Some(Key::MAX) }
    }
}

/// The place of a task in the claim order of its run. Smaller ranks are claimed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Priority of the task.
    pub priority: Reverse<i32>,
    /// Ordinal of the task in the plan.
    pub ordinal: i32,
}

impl Rank {
    /// Returns the rank of a task.
    pub fn of(task: &Task) -> Self {
        Self { priority: Reverse(task.spec.priority), ordinal: task.ordinal }
    }
}

/// A class, and the rank of a ready task of the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ReadyClass {
    pub class: TaskClass,
    pub rank: Rank,
}

fn read_class(row: &mut Columns) -> Result<ReadyClass> {
    let run_key = row.take()?;
    let capability_set_key = row.take()?;
    let class = TaskClass { run_key, capability_set_key, path_set_key: row.take()? };
    Ok(ReadyClass { class, rank: read_rank(row)? })
}

fn read_rank(row: &mut Columns) -> Result<Rank> {
    Ok(Rank { priority: Reverse(row.take()?), ordinal: row.take()? })
}

/// Returns the classes of the tasks that became ready after the version `after`, with the rank of each task and the
/// version of the change, oldest change first. The result contains at most `limit` tasks.
pub fn list_since(tx: &mut dyn Tx, after: VersionCursor, limit: usize) -> Result<Vec<(VersionCursor, ReadyClass)>> {
    let sql = concat!(
        "SELECT claim_version, key, run_key, capability_set_key, path_set_key, priority, ordinal FROM tasks
        WHERE ",
        ready!(),
        " AND (claim_version, key) > ($1, $2) ORDER BY claim_version, key LIMIT $3"
    );
    all(tx, sql, params![after.version, after.key, row_limit(limit)], |row| {
        let cursor = VersionCursor { version: row.take()?, key: row.take()? };
        Ok((cursor, read_class(row)?))
    })
}

/// Expands to the query for the first ready task that meets a condition, in the order of the index `tasks_ready`.
macro_rules! first_ready {
    ($condition:literal, $order:literal) => {
        concat!(
            "SELECT run_key, capability_set_key, path_set_key, priority, ordinal FROM tasks WHERE ",
            ready!(),
            " AND ",
            $condition,
            " ORDER BY ",
            $order,
            " LIMIT 1"
        )
    };
}

macro_rules! next_path_set {
    () => {
        first_ready!(
            "run_key = $1 AND capability_set_key = $2 AND path_set_key > $3",
            "path_set_key NULLS FIRST, priority DESC, ordinal"
        )
    };
}

macro_rules! next_capability_set {
    () => {
        first_ready!(
            "run_key = $1 AND capability_set_key > $2",
            "capability_set_key, path_set_key NULLS FIRST, priority DESC, ordinal"
        )
    };
}

macro_rules! next_run {
    () => {
        first_ready!("run_key > $1", "run_key, capability_set_key, path_set_key NULLS FIRST, priority DESC, ordinal")
    };
}
/// Returns the first class after the class `after` that has a ready task, with the rank of the first ready task. The
/// function reads the index once for each class and not once for each task.
pub fn find_next_class(tx: &mut dyn Tx, after: &TaskClass) -> Result<Option<ReadyClass>> {
    let TaskClass { run_key, capability_set_key, path_set_key } = after;
    let path_set = path_set_key.unwrap_or(Key::MIN);
    if let Some(found) = find_class(tx, next_path_set!(), params![run_key, capability_set_key, path_set])? {
        return Ok(Some(found));
    }
    if let Some(found) = find_class(tx, next_capability_set!(), params![run_key, capability_set_key])? {
        return Ok(Some(found));
    }
    find_class(tx, next_run!(), params![run_key])
}

fn find_class(tx: &mut dyn Tx, sql: &'static str, params: &[SqlValue]) -> Result<Option<ReadyClass>> {
    first(tx, sql, params, read_class)
}

/// Returns the number of ready tasks of a run, or `limit` if the number is greater than `limit`.
pub fn count_of_run(tx: &mut dyn Tx, run_key: Key, limit: usize) -> Result<usize> {
    let sql =
        concat!("SELECT COUNT(*) FROM (SELECT 1 FROM tasks WHERE run_key = $1 AND ", ready!(), " LIMIT $2) counted");
    count(tx, sql, params![run_key, row_limit(limit)])
}

/// Returns the number of ready tasks that depend on the completed task `completed_key`.
pub fn count_dependents(tx: &mut dyn Tx, completed_key: Key) -> Result<usize> {
    // With the condition in a WHERE clause, PostgreSQL could read all ready tasks.
    let sql = concat!(
        "SELECT COUNT(CASE WHEN ",
        ready!("t."),
        " THEN 1 END) FROM task_dependencies d JOIN tasks t ON t.key = d.task_key WHERE d.depends_on_key = $1"
    );
    count(tx, sql, params![completed_key])
}

fn count(tx: &mut dyn Tx, sql: &'static str, params: &[SqlValue]) -> Result<usize> {
    let count = first(tx, sql, params, |row| row.take::<i64>())?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}
