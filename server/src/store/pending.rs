//! Pending tasks in the order in which they would be given out, whether they can be or not.
//!
//! The literals make the partial indexes usable: of tasks 1 is PENDING, of runs 1, 2 and 4 give out tasks, 3 is PAUSED.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Columns, Tx, all, params, rows_of};
use crate::domain::Key;
use crate::domain::limits;
use crate::domain::run::RunStatus;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// A pending task, as far as one needs to know it to say what is in its way.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Pending {
    pub open_dependencies: i32,
    pub not_before_time: Option<Timestamp>,
    pub path_set_key: Option<Key>,
    pub required_capabilities: Vec<String>,
    pub run_status: RunStatus,
    pub run_key: Key,
}

rows_of!($ "SELECT t.priority, t.ordinal, t.open_dependencies, t.not_before_time, t.path_set_key, t.required_capabilities,
        r.status
    FROM tasks t JOIN runs r ON r.key = t.run_key WHERE t.run_key = $1 AND t.status = 1 ");

/// Where it stands in the order in which tasks are given out.
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

/// The first thousand, of a run or of all that have not ended.
pub fn first(tx: &mut dyn Tx, run_key: Option<Key>) -> Result<Vec<Pending>> {
    let runs = match run_key {
        Some(run_key) => vec![(0, run_key)],
        None => living_runs(tx)?,
    };
    let mut found = BTreeMap::new();
    for (last_served, run_key) in runs {
        // Two indexes: of what depends on nothing open, and of the rest.
        let ready = select!("AND t.open_dependencies = 0 ORDER BY t.priority DESC, t.ordinal");
        let waiting = select!("AND t.open_dependencies > 0 ORDER BY t.priority DESC, t.ordinal");
        for sql in [ready, waiting] {
            merge(tx, sql, run_key, last_served, &mut found)?;
        }
    }
    Ok(found.into_values().collect())
}

/// Takes in those of a run that are among the first, up to the first that is not: behind it none is.
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

/// Those that give out tasks, and those that would if they were not paused; who was served least recently first.
fn living_runs(tx: &mut dyn Tx) -> Result<Vec<(i64, Key)>> {
    let giving_out = "SELECT c.last_served, r.key FROM runs r JOIN run_counters c ON c.run_key = r.key
        WHERE r.status IN (1, 2, 4) ORDER BY r.key";
    let paused = "SELECT c.last_served, r.key FROM runs r JOIN run_counters c ON c.run_key = r.key
        WHERE r.status = 3 ORDER BY r.key";
    let mut runs = all(tx, giving_out, &[], |row| Ok((row.take()?, row.take()?)))?;
    runs.extend(all(tx, paused, &[], |row| Ok((row.take::<i64>()?, row.take::<Key>()?)))?);
    runs.sort_unstable();
    Ok(runs)
}
