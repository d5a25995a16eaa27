//! This module finds the ready tasks that an agent can claim, in claim order. The macro `ready_at!` of the module
//! `names` defines when a task is ready. A query with the macro `dependencies_met!` also returns tasks whose
//! `not_before_time` has not passed.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;

use super::names::{allows_claims, dependencies_met, ready_at};
use super::{Columns, SqlValue, Tx, first, params};
use crate::domain::Key;
use crate::domain::task::contains_all;
use crate::error::Result;

/// Checks whether a path set overlaps with the path set of a leased task. The caller of this module implements the
/// trait, because the store can't parse glob patterns.
pub trait PathSetChecker {
    /// Returns whether no leased task has a path set that overlaps with the path set `set` of the run `run_key`.
    fn is_free(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key) -> Result<bool>;
}

/// Describes a claimable task with the columns that determine the place of the task in the claim order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClaimableTask {
    key: Key,
    priority: i32,
    ordinal: i32,
}

/// Holds the columns of a ready task that determine whether an agent can claim the task.
struct ReadyTask {
    task: ClaimableTask,
    path_set_key: Option<Key>,
    required_capabilities: Vec<String>,
}

/// Expands to the query for the tasks of the run `$1` that are ready at the time `$2`, in claim order. The optional
/// argument adds a condition to the query.
macro_rules! ready_of_run {
    ($($condition:literal)?) => {
        concat!(
            "SELECT key, priority, ordinal, path_set_key, required_capabilities FROM tasks
            WHERE run_key = $1 AND ",
            ready_at!("$2"),
            $(" AND ", $condition,)?
            " ORDER BY priority DESC, ordinal"
        )
    };
}

fn read_row(row: &mut Columns) -> Result<ReadyTask> {
    Ok(ReadyTask {
        task: ClaimableTask { key: row.take()?, priority: row.take()?, ordinal: row.take()? },
        path_set_key: row.take()?,
        required_capabilities: row.take()?,
    })
}

/// Number of ready tasks that a claim checks one by one. If the agent can claim none of these tasks, the claim checks
/// the remaining tasks by path set, so that one check can exclude all tasks of a path set.
const CHECKED_ONE_BY_ONE: usize = 32;

/// Returns the key of the first ready task of a run that an agent with `capabilities` can claim, or None if the agent
/// can claim no task of the run.
pub fn find_next_of_run(
    tx: &mut dyn Tx,
    run_key: Key,
    capabilities: &[String],
    paths: &mut dyn PathSetChecker,
) -> Result<Option<Key>> {
    Ok(find_claimable_of_run(tx, run_key, capabilities, paths)?.map(|task| task.key))
}

/// Returns the key of the first ready task of all runs that an agent with `capabilities` can claim, or None if the
/// agent can claim no task. The first task is the task with the highest priority. If several tasks have this priority,
/// the task of the least recently served run is first.
pub fn find_next_of_all(
    tx: &mut dyn Tx,
    capabilities: &[String],
    paths: &mut dyn PathSetChecker,
) -> Result<Option<Key>> {
    let mut best: Option<(Rank, Key)> = None;
    for rank in list_candidate_runs(tx)? {
        // The runs are sorted by `rank`, so no ready task of this run or of a later run comes before `rank`. If `best`
        // does not come after `rank`, neither this run nor a later run has a ready task that comes before `best`.
        if best.is_some_and(|(best, _)| best <= rank) {
            break;
        }
        if let Some(task) = find_claimable_of_run(tx, rank.run_key, capabilities, paths)? {
            let candidate = (Rank { priority: Reverse(task.priority), ..rank }, task.key);
            best = Some(best.map_or(candidate, |best| best.min(candidate)));
        }
    }
    Ok(best.map(|(_, key)| key))
}

/// The rank of a run in the claim order. The task with the priority `priority` is a candidate for the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Reverse<i32>,
    last_served: i64,
    /// Key of the run. The key breaks ties, so that the order of runs is total.
    run_key: Key,
}

/// Returns the runs that have pending tasks without open dependencies, ordered by the rank of the first of these tasks
/// in each run. The first task can have a `not_before_time` that has not passed, so the run's first ready task can come
/// later. The query skips paused and ended runs, because no agent can claim the tasks of paused and ended runs. The
/// inner query sorts in the order of the index `tasks_ready`, so SQLite does not have to sort the tasks.
fn list_candidate_runs(tx: &mut dyn Tx) -> Result<Vec<Rank>> {
    let sql = concat!(
        "SELECT r.key, c.last_served,
            (SELECT t.priority FROM tasks t WHERE t.run_key = r.key AND ",
        dependencies_met!("t."),
        " ORDER BY t.priority DESC, t.ordinal LIMIT 1)
        FROM runs r JOIN run_counters c ON c.run_key = r.key WHERE ",
        allows_claims!()
    );
    let mut runs = Vec::new();
    tx.query(sql, &[], &mut |row| {
        let run_key = row.take()?;
        let last_served = row.take()?;
        if let Some(priority) = row.take::<Option<i32>>()? {
            runs.push(Rank { priority: Reverse(priority), last_served, run_key });
        }
        Ok(ControlFlow::Continue(()))
    })?;
    runs.sort_unstable();
    Ok(runs)
}

fn find_claimable_of_run(
    tx: &mut dyn Tx,
    run_key: Key,
    capabilities: &[String],
    paths: &mut dyn PathSetChecker,
) -> Result<Option<ClaimableTask>> {
    let (candidates, are_all) = read_first_ready_tasks(tx, run_key, capabilities)?;
    let mut free = HashMap::new();
    for candidate in candidates {
        if is_free_cached(tx, &mut free, run_key, candidate.path_set_key, paths)? {
            return Ok(Some(candidate.task));
        }
    }
    if are_all { Ok(None) } else { find_claimable_by_path_set(tx, run_key, capabilities, &mut free, paths) }
}

/// Reads the first `CHECKED_ONE_BY_ONE` (32) ready tasks of a run. Returns the tasks that require only the capabilities
/// in `capabilities`, and a boolean. If the claim may have to check further tasks, the boolean is false. The function
/// stops at the first returned task without paths, because no leased task can block a task without paths.
fn read_first_ready_tasks(tx: &mut dyn Tx, run_key: Key, capabilities: &[String]) -> Result<(Vec<ReadyTask>, bool)> {
    let now = tx.now();
    let mut found = Vec::new();
    let mut checked = 0;
    tx.query(ready_of_run!(), params![run_key, now], &mut |row| {
        let candidate = read_row(row)?;
        checked += 1;
        let mut is_decided = false;
        if contains_all(capabilities, &candidate.required_capabilities) {
            is_decided = candidate.path_set_key.is_none();
            found.push(candidate);
        }
        let is_enough = is_decided || checked == CHECKED_ONE_BY_ONE;
        Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok((found, checked < CHECKED_ONE_BY_ONE))
}

/// Returns whether no leased task has a path set that overlaps with the path set `set`, and caches the result in
/// `free`. Returns true if `set` is None, because a task without paths conflicts with no task.
fn is_free_cached(
    tx: &mut dyn Tx,
    free: &mut HashMap<Key, bool>,
    run_key: Key,
    set: Option<Key>,
    paths: &mut dyn PathSetChecker,
) -> Result<bool> {
    let Some(set) = set else { return Ok(true) };
    if let Some(known) = free.get(&set) {
        return Ok(*known);
    }
    let decided = paths.is_free(tx, run_key, set)?;
    free.insert(set, decided);
    Ok(decided)
}

/// Returns the first task of a run in claim order that an agent with `capabilities` can claim, or None if the agent can
/// claim no task of the run. The function checks each path set once, so one check excludes all tasks of a path set that
/// overlaps with the path set of a leased task.
fn find_claimable_by_path_set(
    tx: &mut dyn Tx,
    run_key: Key,
    capabilities: &[String],
    free: &mut HashMap<Key, bool>,
    paths: &mut dyn PathSetChecker,
) -> Result<Option<ClaimableTask>> {
    let now = tx.now();
    let without_paths = ready_of_run!("path_set_key IS NULL");
    let of_set = ready_of_run!("path_set_key = $3");
    let mut best = find_task_within_capabilities(tx, without_paths, params![run_key, now], capabilities)?;
    let mut after = 0;
    while let Some(set) = find_next_candidate_set(tx, run_key, after)? {
        after = set;
        if !is_free_cached(tx, free, run_key, Some(set), paths)? {
            continue;
        }
        let found = find_task_within_capabilities(tx, of_set, params![run_key, now, set], capabilities)?;
        best = [best, found].into_iter().flatten().min_by_key(|task| (Reverse(task.priority), task.ordinal));
    }
    Ok(best)
}

/// Returns the smallest path set key greater than `after` among the pending tasks of a run that have no open
/// dependency, or None if no greater key exists.
fn find_next_candidate_set(tx: &mut dyn Tx, run_key: Key, after: Key) -> Result<Option<Key>> {
    let sql = concat!(
        "SELECT path_set_key FROM tasks WHERE run_key = $1 AND ",
        dependencies_met!(),
        " AND path_set_key > $2 ORDER BY path_set_key LIMIT 1"
    );
    first(tx, sql, params![run_key, after], |row| row.take())
}

fn find_task_within_capabilities(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    capabilities: &[String],
) -> Result<Option<ClaimableTask>> {
    let mut found = None;
    tx.query(sql, params, &mut |row| {
        let candidate = read_row(row)?;
        if contains_all(capabilities, &candidate.required_capabilities) {
            found = Some(candidate.task);
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Returns the number of pending tasks of a run that have no open dependency, or `limit` if the number is greater than
/// `limit`. Tasks whose `not_before_time` has not passed count too.
pub fn count_with_dependencies_met(tx: &mut dyn Tx, run_key: Key, limit: usize) -> Result<usize> {
    let sql = concat!(
        "SELECT COUNT(*) FROM
        (SELECT 1 FROM tasks WHERE run_key = $1 AND ",
        dependencies_met!(),
        " ORDER BY priority DESC, ordinal LIMIT $2) counted"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let count = first(tx, sql, params![run_key, limit], |row| row.take::<i64>())?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}

/// Returns the number of pending tasks that depend on the completed task `completed_key` and have no open dependency.
/// Tasks whose `not_before_time` has not passed count too.
pub fn count_dependents_with_dependencies_met(tx: &mut dyn Tx, completed_key: Key) -> Result<usize> {
    let sql = concat!(
        "SELECT COUNT(*) FROM task_dependencies d JOIN tasks t ON t.key = d.task_key
        WHERE d.depends_on_key = $1 AND ",
        dependencies_met!("t.")
    );
    let count = first(tx, sql, params![completed_key], |row| row.take::<i64>())?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}
