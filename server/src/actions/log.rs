//! Reading the log: what lists and watchers ask of it, each time in one read.

use crate::domain::Key;
use crate::error::{Error, Resource, Result};
use crate::store::events::{self, Found, Scan};
use crate::store::{Limit, Tx, compaction, counters, runs, tasks};

/// Checks the scope of a list or a watch: the run and the task are there. Returns the run's key.
pub fn check_scope(tx: &mut dyn Tx, run_id: Option<&str>, task_id: Option<&str>) -> Result<Option<Key>> {
    let run_key = run_id.map(|id| runs::key(tx, id)).transpose()?;
    match (run_key, task_id) {
        (Some(run_key), Some(task_id)) => {
            tasks::key_in_run(tx, run_key, task_id)?;
        }
        (None, Some(task_id)) if !tasks::exists(tx, task_id)? => {
            return Err(Error::not_found(Resource::Task, task_id));
        }
        _ => {}
    }
    Ok(run_key)
}

/// Refuses a cursor that was never given, and one after which something was removed. Returns the newest position.
pub fn check_cursor(tx: &mut dyn Tx, run_key: Option<Key>, cursor: Option<i64>) -> Result<i64> {
    let newest_position = counters::newest_position(tx)?;
    let Some(cursor) = cursor else { return Ok(newest_position) };
    if cursor > newest_position {
        return Err(Error::PositionInFuture { newest_position });
    }
    if cursor < compaction::of_scope(tx, run_key)? {
        let oldest_position = compaction::oldest_position(tx, run_key)?;
        return Err(Error::PositionCompacted { oldest_position, newest_position });
    }
    Ok(newest_position)
}

/// What one read saw.
pub struct Look {
    /// Events, and where it stopped.
    pub found: Found,
    /// Of all runs; of a run that was deleted, where that was.
    pub newest_position: i64,
    /// Where the run stands.
    pub run: RunState,
}

/// What of a run's status matters to who watches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It goes on; so does everything that is no run.
    GoesOn,
    /// It is in a terminal status.
    Ended,
    /// It was deleted.
    Deleted,
}

/// Looks through the log. With a cursor, what was removed behind it since it was checked is an error, not a gap.
pub fn look(tx: &mut dyn Tx, scan: &Scan, cursor: Option<i64>, limit: Limit) -> Result<Look> {
    let run = scan.run_key.map_or(Ok(RunState::GoesOn), |key| run_state(tx, key))?;
    if let (RunState::Deleted, Some(key)) = (run, scan.run_key) {
        return Ok(Look { found: Found::default(), newest_position: deletion(tx, key)?, run });
    }
    let newest_position = check_cursor(tx, scan.run_key, cursor)?;
    Ok(Look { found: events::scan(tx, scan, limit)?, newest_position, run })
}

fn run_state(tx: &mut dyn Tx, key: Key) -> Result<RunState> {
    Ok(match runs::find_standing(tx, key)? {
        Some(run) if run.status.is_terminal() => RunState::Ended,
        Some(_) => RunState::GoesOn,
        None => RunState::Deleted,
    })
}

/// The position of a run's deletion, or if even that was removed for its age, one after it.
fn deletion(tx: &mut dyn Tx, key: Key) -> Result<i64> {
    match events::newest_of_run(tx, key)? {
        0 => counters::newest_position(tx),
        position => Ok(position),
    }
}
