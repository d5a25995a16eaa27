//! This module lists pending tasks in claim order. The list includes tasks that can't be claimed, because the server
//! uses the list to explain why a claim found no task.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::names::{allows_claims, run_status, task_status};
use super::{Columns, Tx, all, params, row_limit};
use crate::domain::Key;
use crate::domain::limits;
use crate::domain::run::RunStatus;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Holds the columns of a pending task that determine whether the task can be claimed.
#[derive(Debug)]
#[allow(missing_docs)] // `Task` and `Run` document the fields.
pub struct PendingTask {
    pub open_dependencies: i32,
    pub not_before_time: Option<Timestamp>,
    pub is_delayed: bool,
    pub path_set_key: Option<Key>,
    pub required_capabilities: Vec<String>,
    pub run_status: RunStatus,
    pub run_key: Key,
}

/// Orders tasks for claims: by priority, then by the least recently served run, then by plan order.
type ClaimRank = (Reverse<i32>, i64, Key, i32);

fn read_ranked_task(row: &mut Columns, run_key: Key, last_served: i64) -> Result<(ClaimRank, PendingTask)> {
    let rank = (Reverse(row.take()?), last_served, run_key, row.take()?);
    let pending = PendingTask {
        open_dependencies: row.take()?,
        not_before_time: row.take()?,
        is_delayed: row.take()?,
        path_set_key: row.take()?,
        required_capabilities: row.take()?,
        run_status: row.take()?,
        run_key,
    };
    Ok((rank, pending))
}

/// Returns the first `UNCLAIMABLE_TASKS` (1,000) pending tasks of a run in claim order. If `run_key` is None, the
/// function returns the first pending tasks of all paused runs and all runs whose tasks can be claimed.
pub fn list_first_pending_tasks(tx: &mut dyn Tx, run_key: Option<Key>) -> Result<Vec<PendingTask>> {
    let runs = match run_key {
        Some(run_key) => vec![(0, run_key)],
        None => list_claimable_and_paused_runs(tx)?,
    };
    let mut found = BTreeMap::new();
    for (last_served, run_key) in runs {
        merge(tx, run_key, last_served, &mut found)?;
    }
    Ok(found.into_values().collect())
}

/// Inserts pending tasks of a run into `found`, which holds at most the first `UNCLAIMABLE_TASKS` (1,000) tasks of all
/// runs in claim order. Stops at the first task that comes after the last task in a full `found`, because the query
/// returns tasks in claim order.
fn merge(tx: &mut dyn Tx, run_key: Key, last_served: i64, found: &mut BTreeMap<ClaimRank, PendingTask>) -> Result<()> {
    let sql = concat!(
        "SELECT t.priority, t.ordinal, t.open_dependencies, t.not_before_time, t.is_delayed, t.path_set_key,
            t.required_capabilities, r.status
        FROM tasks t JOIN live_runs r ON r.key = t.run_key
        WHERE t.run_key = $1 AND t.status = ",
        task_status!(PENDING),
        " ORDER BY t.priority DESC, t.ordinal LIMIT $2"
    );
    tx.query(sql, params![run_key, row_limit(limits::UNCLAIMABLE_TASKS)], &mut |row| {
        let (rank, pending) = read_ranked_task(row, run_key, last_served)?;
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

/// Returns all paused runs and all runs whose tasks can be claimed, with the least recently served run first. The
/// paused runs have a separate query, because the two queries use different partial indexes.
fn list_claimable_and_paused_runs(tx: &mut dyn Tx) -> Result<Vec<(i64, Key)>> {
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
