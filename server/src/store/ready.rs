//! What can be claimed: the tasks that are ready, in the order in which they are given out.
//!
//! The literals make the partial indexes usable: of tasks 1 is PENDING, of runs 1, 2 and 4 give out tasks, 3 is PAUSED.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;

use super::{Columns, SqlValue, Tx, first, params};
use crate::domain::Key;
use crate::domain::task::covers;
use crate::error::Result;

/// Decides about path sets. The store knows which are held, not what they mean.
pub trait IsFree {
    /// The set, of a task of this run, overlaps with none that is held.
    fn is_free(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key) -> Result<bool>;
}

/// A task that can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    key: Key,
    priority: i32,
    ordinal: i32,
}

/// A ready task, as far as a claim needs to know it.
struct Ready {
    found: Found,
    path_set_key: Option<Key>,
    required_capabilities: Vec<String>,
}

fn ready(row: &mut Columns) -> Result<Ready> {
    Ok(Ready {
        found: Found { key: row.take()?, priority: row.take()?, ordinal: row.take()? },
        path_set_key: row.take()?,
        required_capabilities: row.take()?,
    })
}

/// How many ready tasks are looked at one by one before the claim goes on by path sets: one that is in the way is then
/// passed over with all its tasks.
const ONE_BY_ONE: usize = 32;

/// The first task of a run that an agent with these capabilities can have now.
pub fn next_of_run(
    tx: &mut dyn Tx,
    run_key: Key,
    capabilities: &[String],
    paths: &mut dyn IsFree,
) -> Result<Option<Key>> {
    Ok(best_of_run(tx, run_key, capabilities, paths)?.map(|found| found.key))
}

/// The same of all runs that give out tasks: of the best of each the one with the highest priority, then that of the
/// run served least recently.
pub fn next_of_all(tx: &mut dyn Tx, capabilities: &[String], paths: &mut dyn IsFree) -> Result<Option<Key>> {
    let mut best: Option<(Rank, Key)> = None;
    for rank in runs_with_ready(tx)? {
        // It may have none that this agent can have now, but none that comes before its first.
        if best.is_some_and(|(found, _)| found <= rank) {
            break;
        }
        if let Some(found) = best_of_run(tx, rank.run_key, capabilities, paths)? {
            let rank = Rank { priority: Reverse(found.priority), ..rank };
            best = [best, Some((rank, found.key))].into_iter().flatten().min();
        }
    }
    Ok(best.map(|(_, key)| key))
}

/// Where a run stands when it is to give out a task of a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Reverse<i32>,
    last_served: i64,
    /// So that two never stand at the same place.
    run_key: Key,
}

/// The runs that give out tasks and have some, in the order of their first ready tasks. A run that has ended or is
/// paused costs nothing here, whatever it has left. (The order in the inner query is that of the index it is to use.)
fn runs_with_ready(tx: &mut dyn Tx) -> Result<Vec<Rank>> {
    let sql = "SELECT r.key, c.last_served,
            (SELECT t.priority FROM tasks t WHERE t.run_key = r.key AND t.status = 1 AND t.open_dependencies = 0
                ORDER BY t.priority DESC, t.ordinal LIMIT 1)
        FROM runs r JOIN run_counters c ON c.run_key = r.key WHERE r.status IN (1, 2, 4)";
    let mut runs = Vec::new();
    tx.query(sql, &[], &mut |row| {
        let (run_key, last_served) = (row.take()?, row.take()?);
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
) -> Result<Option<Found>> {
    let (candidates, are_all) = first_ready(tx, run_key, capabilities)?;
    let mut free = HashMap::new();
    for task in candidates {
        if is_free_once(tx, &mut free, run_key, task.path_set_key, paths)? {
            return Ok(Some(task.found));
        }
    }
    if are_all { Ok(None) } else { best_by_sets(tx, run_key, capabilities, &mut free, paths) }
}

/// The first tasks of a run that the agent can have if their paths are free, up to the first without paths: behind that
/// nobody needs to look. And whether these are all.
fn first_ready(tx: &mut dyn Tx, run_key: Key, capabilities: &[String]) -> Result<(Vec<Ready>, bool)> {
    let sql = "SELECT key, priority, ordinal, path_set_key, required_capabilities FROM tasks
        WHERE run_key = $1 AND status = 1 AND open_dependencies = 0
            AND (not_before_time IS NULL OR not_before_time <= $2)
        ORDER BY priority DESC, ordinal";
    let now = tx.now();
    let (mut found, mut looked_at, mut is_decided) = (Vec::new(), 0, false);
    tx.query(sql, params![run_key, now], &mut |row| {
        let task = ready(row)?;
        looked_at += 1;
        if covers(capabilities, &task.required_capabilities) {
            is_decided = task.path_set_key.is_none();
            found.push(task);
        }
        let is_enough = is_decided || looked_at == ONE_BY_ONE;
        Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok((found, looked_at < ONE_BY_ONE))
}

/// Asks about each set once.
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

fn best_by_sets(
    tx: &mut dyn Tx,
    run_key: Key,
    capabilities: &[String],
    free: &mut HashMap<Key, bool>,
    paths: &mut dyn IsFree,
) -> Result<Option<Found>> {
    let now = tx.now();
    let sql = "SELECT key, priority, ordinal, path_set_key, required_capabilities FROM tasks
        WHERE run_key = $1 AND status = 1 AND open_dependencies = 0 AND path_set_key IS NULL
            AND (not_before_time IS NULL OR not_before_time <= $2)
        ORDER BY priority DESC, ordinal";
    let mut best = first_covered(tx, sql, params![run_key, now], capabilities)?;
    let mut after = 0;
    while let Some(set) = next_ready_set(tx, run_key, after)? {
        after = set;
        if !is_free_once(tx, free, run_key, Some(set), paths)? {
            continue;
        }
        let sql = "SELECT key, priority, ordinal, path_set_key, required_capabilities FROM tasks
            WHERE run_key = $1 AND path_set_key = $3 AND status = 1 AND open_dependencies = 0
                AND (not_before_time IS NULL OR not_before_time <= $2)
            ORDER BY priority DESC, ordinal";
        let found = first_covered(tx, sql, params![run_key, now, set], capabilities)?;
        best = [best, found].into_iter().flatten().min_by_key(|found| (Reverse(found.priority), found.ordinal));
    }
    Ok(best)
}

fn next_ready_set(tx: &mut dyn Tx, run_key: Key, after: Key) -> Result<Option<Key>> {
    let sql = "SELECT path_set_key FROM tasks
        WHERE run_key = $1 AND status = 1 AND open_dependencies = 0 AND path_set_key > $2
        ORDER BY path_set_key LIMIT 1";
    first(tx, sql, params![run_key, after], |row| row.take())
}

fn first_covered(
    tx: &mut dyn Tx,
    sql: &'static str,
    params: &[SqlValue],
    capabilities: &[String],
) -> Result<Option<Found>> {
    let mut found = None;
    tx.query(sql, params, &mut |row| {
        let task = ready(row)?;
        if covers(capabilities, &task.required_capabilities) {
            found = Some(task.found);
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// How many tasks of a run are ready, counted up to a limit.
pub fn count(tx: &mut dyn Tx, run_key: Key, limit: usize) -> Result<usize> {
    let sql = "SELECT COUNT(*) FROM
        (SELECT 1 FROM tasks WHERE run_key = $1 AND status = 1 AND open_dependencies = 0
            ORDER BY priority DESC, ordinal LIMIT $2) counted";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let count = first(tx, sql, params![run_key, limit], |row| row.take::<i64>())?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}

/// How many tasks became ready because one they depend on was completed.
pub fn count_dependents(tx: &mut dyn Tx, completed_key: Key) -> Result<usize> {
    let sql = "SELECT COUNT(*) FROM task_dependencies d JOIN tasks t ON t.key = d.task_key
        WHERE d.depends_on_key = $1 AND t.status = 1 AND t.open_dependencies = 0";
    let count = first(tx, sql, params![completed_key], |row| row.take::<i64>())?;
    Ok(usize::try_from(count.unwrap_or(0)).unwrap_or(0))
}
