//! Reading the log, for lists and watchers.

use crate::domain::Key;
use crate::domain::event::EventFilter;
use crate::error::{Error, Resource, Result};
use crate::store::events::{self, Found, Scan};
use crate::store::{Limit, Tx, compaction, counters, runs, tasks};

/// Checks that the run and the task of a list or a watch exist. Returns the run's key.
fn check_scope(tx: &mut dyn Tx, run_id: Option<&str>, task_id: Option<&str>) -> Result<Option<Key>> {
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

/// Checks that a cursor is not ahead of the log and that retention has removed nothing after it. Returns the newest
/// position.
fn check_cursor(tx: &mut dyn Tx, run_key: Option<Key>, cursor: Option<i64>) -> Result<i64> {
    let newest_position = counters::newest_position(tx)?;
    let Some(cursor) = cursor else { return Ok(newest_position) };
    if cursor > newest_position {
        return Err(Error::PositionInFuture { cursor, newest_position });
    }
    if cursor < compaction::of_scope(tx, run_key)? {
        let oldest_position = compaction::oldest_position(tx, run_key)?;
        return Err(Error::PositionCompacted { cursor, oldest_position, newest_position });
    }
    Ok(newest_position)
}

/// The query of a list of events.
#[derive(Debug, Clone)]
pub struct EventQuery {
    /// The run. None: all runs.
    pub run_id: Option<String>,
    /// Only events after this position, the oldest first. None: the newest events.
    pub after: Option<i64>,
    /// Only events before this position.
    pub before: Option<i64>,
    /// The filter for those events.
    pub filter: EventFilter,
}

/// Checks the scope and the cursor of a list. Returns the scan to run, and the last position that the scan covers: events
/// that commit later have a larger position, so all reads of the scan see the same log.
pub fn begin_list(tx: &mut dyn Tx, query: &EventQuery) -> Result<(Scan, i64)> {
    let run_key = check_scope(tx, query.run_id.as_deref(), query.filter.task_id.as_deref())?;
    let newest = check_cursor(tx, run_key, query.after)?;
    let after = query.after.unwrap_or(0);
    let last = query.before.map_or(newest, |before| newest.min(before - 1)).max(after);
    let scan = Scan {
        run_key,
        after,
        before: Some(last.saturating_add(1)),
        newest_first: query.after.is_none(),
        filter: query.filter.clone(),
    };
    Ok((scan, last))
}

/// Where a watcher begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event that retention has kept.
    Beginning,
    /// After this position.
    After(i64),
    /// With the events that commit from now on.
    Now,
}

impl Start {
    /// Returns the cursor after which no event may be missing.
    fn cursor(self) -> Option<i64> {
        match self {
            Self::After(position) => Some(position),
            Self::Beginning | Self::Now => None,
        }
    }
}

/// The log as a watcher finds it when it begins.
pub struct WatchBegin {
    /// The run that is watched. None: all runs.
    pub run_key: Option<Key>,
    /// The newest position of the log.
    pub newest_position: i64,
    /// The watcher sends the events after this position.
    pub after: i64,
}

/// Checks the scope and the cursor of a watcher.
pub fn begin_watch(tx: &mut dyn Tx, run_id: Option<&str>, task_id: Option<&str>, start: Start) -> Result<WatchBegin> {
    let run_key = check_scope(tx, run_id, task_id)?;
    let newest_position = check_cursor(tx, run_key, start.cursor())?;
    let after = match start {
        Start::Beginning => compaction::of_scope(tx, run_key)?,
        Start::After(position) => position,
        Start::Now => newest_position,
    };
    Ok(WatchBegin { run_key, newest_position, after })
}

/// The result of one read of the log.
pub struct LogRead {
    /// The events, and where the scan stopped.
    pub found: Found,
    /// The newest position of the log. If the run was deleted: the position of its deletion.
    pub newest_position: i64,
    /// The state of the run.
    pub run: RunState,
}

/// The state of a run, as far as watchers need it: it decides whether more events can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// The run has not ended, or the read is about all runs.
    GoesOn,
    /// The run has a terminal status.
    Ended,
    /// The run was deleted.
    Deleted,
}

/// Reads a part of the log. With a cursor, it fails if retention has removed events after the cursor since the cursor was
/// checked, so that the reader never gets a gap.
pub fn read(tx: &mut dyn Tx, scan: &Scan, cursor: Option<i64>, limit: Limit) -> Result<LogRead> {
    let run = scan.run_key.map_or(Ok(RunState::GoesOn), |key| run_state(tx, key))?;
    if let (RunState::Deleted, Some(key)) = (run, scan.run_key) {
        return Ok(LogRead { found: Found::default(), newest_position: deletion_position(tx, key)?, run });
    }
    let newest_position = check_cursor(tx, scan.run_key, cursor)?;
    Ok(LogRead { found: events::scan(tx, scan, limit)?, newest_position, run })
}

fn run_state(tx: &mut dyn Tx, key: Key) -> Result<RunState> {
    Ok(match runs::find_standing(tx, key)? {
        Some(run) if run.status.is_terminal() => RunState::Ended,
        Some(_) => RunState::GoesOn,
        None => RunState::Deleted,
    })
}

/// Returns the position of a run's deletion, or the newest position if retention has removed even that event.
fn deletion_position(tx: &mut dyn Tx, key: Key) -> Result<i64> {
    match events::newest_of_run(tx, key)? {
        0 => counters::newest_position(tx),
        position => Ok(position),
    }
}
