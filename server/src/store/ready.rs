//! Claimable tasks: those that are ready, in claim order. `names::ready!` is the condition.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;

use super::names::{allows_claims, ready, ready_at};
use super::{Columns, SqlValue, Tx, first, params};
use crate::domain::Key;
use crate::domain::task::covers;
use crate::error::Result;

/// Decides about path sets. The store knows which sets are held, but not which overlap.
pub trait IsFree {
    /// Returns whether the path set of a task of this run overlaps with no held one.
    fn is_free(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key) -> Result<bool>;
}

/// A task that can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claimable {
    key: Key,
    priority: i32,
    ordinal: i32,
}

/// The part of a ready task that decides whether it can be claimed.
struct Ready {
    task: Claimable,
    path_set_key: Option<Key>,
    required_capabilities: Vec<String>,
}

/// The query for ready tasks of the run `$1` at the time `$2`, in claim order.
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

fn read_row(row: &mut Columns) -> Result<Ready> {
    Ok(Ready {
        task: Claimable { key: row.take()?, priority: row.take()?, ordinal: row.take()? },
        path_set_key: row.take()?,
        required_capabilities: row.take()?,
    })
}

/// The number of ready tasks that a claim checks one by one before it goes on by path sets. One check then excludes all
/// tasks of a set that is not free.
const CHECKED_ONE_BY_ONE: usize = 32;

/// Returns the first task of a run that an agent with these capabilities can claim now, or None if there is none.
pub fn next_of_run(
    tx: &mut dyn Tx,
    run_key: Key,
    capabilities: &[String],
    paths: &mut dyn IsFree,
) -> Result<Option<Key>> {
    Ok(best_of_run(tx, run_key, capabilities, paths)?.map(|task| task.key))
}

/// Returns the first task of all runs that an agent with these capabilities can claim now, or None if there is none: the
/// task with the highest priority, and among equal ones that of the run served least recently.
pub fn next_of_all(tx: &mut dyn Tx, capabilities: &[String], paths: &mut dyn IsFree) -> Result<Option<Key>> {
    let mut best: Option<(Rank, Key)> = None;
    for rank in runs_with_ready(tx)? {
        // Whichever of its tasks the agent can claim, it does not come before the run's first ready task.
        if best.is_some_and(|(best, _)| best <= rank) {
            break;
        }
        if let Some(task) = best_of_run(tx, rank.run_key, capabilities, paths)? {
            let candidate = (Rank { priority: Reverse(task.priority), ..rank }, task.key);
            best = Some(best.map_or(candidate, |best| best.min(candidate)));
        }
    }
    Ok(best.map(|(_, key)| key))
}

/// The claim order of runs, by a task of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Reverse<i32>,
    last_served: i64,
    /// Makes the order total.
    run_key: Key,
}

/// Returns the runs that have ready tasks, ranked by their first ready task. Runs that are paused or have ended are not
/// visited, however many tasks they have left. The order of the inner query is that of its index.
fn runs_with_ready(tx: &mut dyn Tx) -> Result<Vec<Rank>> {
    let sql = concat!(
        "SELECT r.key, c.last_served,
            (SELECT t.priority FROM tasks t WHERE t.run_key = r.key AND ",
        ready!("t."),
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

fn best_of_run(
    tx: &mut dyn Tx,
    run_key: Key,
    capabilities: &[String],
    paths: &mut dyn IsFree,
) -> Result<Option<Claimable>> {
    let (candidates, are_all) = first_ready(tx, run_key, capabilities)?;
    let mut free = HashMap::new();
    for candidate in candidates {
        if is_free_once(tx, &mut free, run_key, candidate.path_set_key, paths)? {
            return Ok(Some(candidate.task));
        }
    }
    if are_all { Ok(None) } else { best_by_sets(tx, run_key, capabilities, &mut free, paths) }
}

/// Returns the first ready tasks of a run whose capabilities the agent has, and whether no more follow. Stops at the first
/// task without paths, because it can be claimed in any case.
fn first_ready(tx: &mut dyn Tx, run_key: Key, capabilities: &[String]) -> Result<(Vec<Ready>, bool)> {
    let now = tx.now();
    let mut found = Vec::new();
    let mut checked = 0;
    tx.query(ready_of_run!(), params![run_key, now], &mut |row| {
        let candidate = read_row(row)?;
        checked += 1;
        let mut is_decided = false;
        if covers(capabilities, &candidate.required_capabilities) {
            is_decided = candidate.path_set_key.is_none();
            found.push(candidate);
        }
        let is_enough = is_decided || checked == CHECKED_ONE_BY_ONE;
        Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok((found, checked < CHECKED_ONE_BY_ONE))
}

/// Returns whether a path set is free, and decides it once for each set.
fn is_free_once(
    tx: &mut dyn Tx,
    free: &mut HashMap<Key, bool>,
    run_key: Key,
    set: Option<Key>,
    paths: &mut dyn IsFree,
) -> Result<bool> {
    let Some(set) = set else { return Ok(true) };
    if let Some(known) = free.get(&set) {
        return Ok(*known);
    }
    let decided = paths.is_free(tx, run_key, set)?;
    free.insert(set, decided);
    Ok(decided)
}

/// Returns the first claimable task among the first ones of each free path set and of the tasks without paths.
fn best_by_sets(
    tx: &mut dyn Tx,
    run_key: Key,
    capabilities: &[String],
    free: &mut HashMap<Key, bool>,
    paths: &mut dyn IsFree,
) -> Result<Option<Claimable>> {
    let now = tx.now();
    let without_paths = ready_of_run!("path_set_key IS NULL");
    let of_set = ready_of_run!("path_set_key = $3");
    let mut best = first_covered(tx, without_paths, params![run_key, now], capabilities)?;
    let mut after = 0;
    while let Some(set) = next_ready_set(tx, run_key, after)? {
        after = set;
        if !is_free_once(tx, free, run_key, Some(set), paths)? {
            continue;
        }
        let found = first_covered(tx, of_set, params![run_key, now, set], capabilities)?;
        best = [best, found].into_iter().flatten().min_by_key(|task| (Reverse(task.priority), task.ordinal));
    }
    Ok(best)
}

/// Returns the next path set, by key, that a ready task of a run has.
fn next_ready_set(tx: &mut dyn Tx, run_key: Key, after: Key) -> Result<Option<Key>> {
    let sql = concat!(
        "SELECT path_set_key FROM tasks WHERE run_key = $1 AND ",
        ready!(),
        " AND path_set_key > $2 ORDER BY path_set_key LIMIT 1"
    );
    first(tx, sql, params![run_key, after], |row| row.take())
}

fn first_covered(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    capabilities: &[String],
) -> Result<Option<Claimable>> {
    let mut found = None;
    tx.query(sql, params, &mut |row| {
        let candidate = read_row(row)?;
        if covers(capabilities, &candidate.required_capabilities) {
            found = Some(candidate.task);
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Returns the number of ready tasks of a run, counted up to a limit.
pub fn count(tx: &mut dyn Tx, run_key: Key, limit: usize) -> Result<usize> {
    let sql = concat!(
        "SELECT COUNT(*) FROM
        (SELECT 1 FROM tasks WHERE run_key = $1 AND ",
        ready!(),
        " ORDER BY priority DESC, ordinal LIMIT $2) counted"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let count = first(tx, sql, params![run_key, limit], |row| row.take::<i64>())?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}

/// Returns the number of tasks that have become ready because a task they depend on was completed.
pub fn count_dependents(tx: &mut dyn Tx, completed_key: Key) -> Result<usize> {
    let sql = concat!(
        "SELECT COUNT(*) FROM task_dependencies d JOIN tasks t ON t.key = d.task_key
        WHERE d.depends_on_key = $1 AND ",
        ready!("t.")
    );
    let count = first(tx, sql, params![completed_key], |row| row.take::<i64>())?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}
