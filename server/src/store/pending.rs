//! Pending tasks in claim order, claimable or not: what a claim that finds nothing is explained by.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::names::{allows_claims, ready, run_status, task_status};
use super::{Columns, Tx, all, params};
use crate::domain::Key;
use crate::domain::limits;
use crate::domain::run::RunStatus;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// The part of a pending task that decides whether it can be claimed.
#[derive(Debug)]
#[allow(missing_docs)] // As in `Task` and `Run`.
pub struct Pending {
    pub open_dependencies: i32,
    pub not_before_time: Option<Timestamp>,
    pub path_set_key: Option<Key>,
    pub required_capabilities: Vec<String>,
    pub run_status: RunStatus,
    pub run_key: Key,
}

/// The query for pending tasks of the run `$1` with a condition, in claim order. Each condition has a partial index in
/// this order: `tasks_ready` and `tasks_waiting`.
macro_rules! pending_of_run {
    ($condition:expr) => {
        concat!(
            "SELECT t.priority, t.ordinal, t.open_dependencies, t.not_before_time, t.path_set_key,
                t.required_capabilities, r.status
            FROM tasks t JOIN runs r ON r.key = t.run_key
            WHERE t.run_key = $1 AND ",
            $condition,
            " ORDER BY t.priority DESC, t.ordinal"
        )
    };
}

/// The claim order: priority, then the run served least recently, then plan order.
type Rank = (Reverse<i32>, i64, Key, i32);

fn ranked(row: &mut Columns, run_key: Key, last_served: i64) -> Result<(Rank, Pending)> {
    let rank = (Reverse(row.take()?), last_served, run_key, row.take()?);
    let pending = Pending {
        open_dependencies: row.take()?,
        not_before_time: row.take()?,
        path_set_key: row.take()?,
        required_capabilities: row.take()?,
        run_status: row.take()?,
        run_key,
    };
    Ok((rank, pending))
}

/// Returns the first `UNCLAIMABLE_TASKS` pending tasks of a run, or of all runs that have not ended.
pub fn first(tx: &mut dyn Tx, run_key: Option<Key>) -> Result<Vec<Pending>> {
    let ready = pending_of_run!(ready!("t."));
    let waiting = pending_of_run!(concat!("t.status = ", task_status!(PENDING), " AND t.open_dependencies > 0"));
    let runs = match run_key {
        Some(run_key) => vec![(0, run_key)],
        None => open_runs(tx)?,
    };
    let mut found = BTreeMap::new();
    for (last_served, run_key) in runs {
        for sql in [ready, waiting] {
            merge(tx, sql, run_key, last_served, &mut found)?;
        }
    }
    Ok(found.into_values().collect())
}

/// Adds the tasks of a run that are among the first. Stops at the first task that is not, because no later one is.
fn merge(
    tx: &mut dyn Tx,
    sql: &'static str,
    run_key: Key,
    last_served: i64,
    found: &mut BTreeMap<Rank, Pending>,
) -> Result<()> {
    tx.query(sql, params![run_key], &mut |row| {
        let (rank, pending) = ranked(row, run_key, last_served)?;
        if found.len() == limits::UNCLAIMABLE_TASKS {
            if found.last_key_value().is_some_and(|(last, _)| rank > *last) {
                return Ok(ControlFlow::Break(()));
            }
            found.pop_last();
        }
        found.insert(rank, pending);
        Ok(ControlFlow::Continue(()))
    })
}

/// Returns the runs whose tasks can be claimed, and the paused ones; the run served least recently first. Each status has
/// a partial index.
fn open_runs(tx: &mut dyn Tx) -> Result<Vec<(i64, Key)>> {
    let claimable = concat!(
        "SELECT c.last_served, r.key FROM runs r JOIN run_counters c ON c.run_key = r.key
        WHERE ",
        allows_claims!(),
        " ORDER BY r.key"
    );
    let paused = concat!(
        "SELECT c.last_served, r.key FROM runs r JOIN run_counters c ON c.run_key = r.key
        WHERE r.status = ",
        run_status!(PAUSED),
        " ORDER BY r.key"
    );
    let mut runs = all(tx, claimable, &[], |row| Ok((row.take()?, row.take()?)))?;
    runs.extend(all(tx, paused, &[], |row| Ok((row.take::<i64>()?, row.take::<Key>()?)))?);
    runs.sort_unstable();
    Ok(runs)
}
