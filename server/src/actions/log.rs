//! This module reads the log for lists and watchers.

use crate::domain::Key;
use crate::domain::event::EventFilter;
use crate::error::{Error, Resource, Result};
use crate::store::events::{self, Scan, ScanResult};
use crate::store::{Limit, Tx, compaction, counters, runs, tasks};

/// Checks the run and the task of a list or a watcher. Returns the run's key, or None for all runs. Fails if the run or
/// the task does not exist, or if the task belongs to another run.
fn check_scope(tx: &mut dyn Tx, run_id: Option<&str>, task_id: Option<&str>) -> Result<Option<Key>> {
    let run_key = run_id.map(|id| runs::get_key(tx, id)).transpose()?;
    match (run_key, task_id) {
        (Some(run_key), Some(task_id)) => {
            tasks::get_key_in_run(tx, run_key, task_id)?;
        }
        (None, Some(task_id)) if !tasks::exists(tx, task_id)? => {
            return Err(Error::not_found(Resource::Task, task_id));
        }
        _ => {}
    }
    Ok(run_key)
}

/// Checks a cursor and returns the newest position of the log. Fails if the cursor is ahead of the log, or if retention
/// has removed events after the cursor.
fn check_cursor(tx: &mut dyn Tx, run_key: Option<Key>, cursor: Option<i64>) -> Result<i64> {
    let newest_position = counters::newest_position(tx)?;
    let Some(cursor) = cursor else { return Ok(newest_position) };
    if cursor > newest_position {
        return Err(Error::PositionInFuture { cursor, newest_position });
    }
    if cursor < compaction::newest_removed(tx, run_key)? {
        let oldest_position = compaction::oldest_position(tx, run_key)?;
        return Err(Error::PositionCompacted { cursor, oldest_position, newest_position });
    }
    Ok(newest_position)
}

/// A query for a list of events.
#[derive(Debug, Clone)]
pub struct EventQuery {
    /// The id of the events' run. None means the events of all runs.
    pub run_id: Option<String>,
    /// The position after which the list starts. If set, the events are ordered from oldest to newest. None means that
    /// the list contains the newest events.
    pub after: Option<i64>,
    /// The position before which the list ends. None means that the list has no upper bound.
    pub before: Option<i64>,
    /// The conditions that the listed events must meet.
    pub filter: EventFilter,
}

/// Checks the scope and the cursor of a list. Returns the scan for the list and the last position that the scan covers.
/// Events that commit later have larger positions, so repeated reads of the scan cover the same events. Fails if the
/// run or the task does not exist, or if the cursor is not valid.
pub fn start_list(tx: &mut dyn Tx, query: &EventQuery) -> Result<(Scan, i64)> {
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

/// The position of the log at which a watcher starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPoint {
    /// The watcher starts at the oldest event that retention has not removed.
    Beginning,
    /// The watcher starts after this position.
    After(i64),
    /// The watcher starts with the next event that commits.
    Now,
}

impl StartPoint {
    /// Returns the position after which the watcher must receive every event, or None if the start names no position.
    fn cursor(self) -> Option<i64> {
        match self {
            Self::After(position) => Some(position),
            Self::Beginning | Self::Now => None,
        }
    }
}

/// The scope and the positions of a watcher when the watcher starts.
pub struct WatchStart {
    /// The key of the watched run. None means that the watcher receives the events of all runs.
    pub run_key: Option<Key>,
    /// The newest position of the log when the watcher starts.
    pub newest_position: i64,
    /// The position after which the watcher receives events.
    pub after: i64,
}

/// Checks the scope and the cursor of a watcher, and returns the positions at which the watcher starts. Fails if the
/// run or the task does not exist, if the cursor is ahead of the log, or if retention has removed events after the
/// cursor.
pub fn start_watch(
    tx: &mut dyn Tx,
    run_id: Option<&str>,
    task_id: Option<&str>,
    start: StartPoint,
) -> Result<WatchStart> {
    let run_key = check_scope(tx, run_id, task_id)?;
    let newest_position = check_cursor(tx, run_key, start.cursor())?;
    let after = match start {
        StartPoint::Beginning => compaction::newest_removed(tx, run_key)?,
        StartPoint::After(position) => position,
        StartPoint::Now => newest_position,
    };
    Ok(WatchStart { run_key, newest_position, after })
}

/// The result of one read of the log.
pub struct LogRead {
    /// The events of the scan, and the position at which the scan stopped.
    pub found: ScanResult,
    /// The newest position of the log. If the run was deleted, this field is the position of the deletion.
    pub newest_position: i64,
    /// The state of the run whose log was read.
    pub run: RunState,
}

/// The state of a run, from which a watcher decides whether more events can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// The run has not ended, or the read covers all runs.
    Active,
    /// The run has a terminal status.
    Ended,
    /// The run was deleted.
    Deleted,
}

/// Reads the events that `scan` selects, and returns the events with the state of the run. If `cursor` is set, the
/// function fails if retention has removed events after the cursor, because the caller would miss the removed events.
pub fn read(tx: &mut dyn Tx, scan: &Scan, cursor: Option<i64>, limit: Limit) -> Result<LogRead> {
    let run = scan.run_key.map_or(Ok(RunState::Active), |key| read_run_state(tx, key))?;
    if let (RunState::Deleted, Some(key)) = (run, scan.run_key) {
        return Ok(LogRead { found: ScanResult::default(), newest_position: read_deletion_position(tx, key)?, run });
    }
    let newest_position = check_cursor(tx, scan.run_key, cursor)?;
    Ok(LogRead { found: events::scan(tx, scan, limit)?, newest_position, run })
}

fn read_run_state(tx: &mut dyn Tx, key: Key) -> Result<RunState> {
    Ok(match runs::find_status_and_grace(tx, key)? {
        Some(run) if run.status.is_terminal() => RunState::Ended,
        Some(_) => RunState::Active,
        None => RunState::Deleted,
    })
}

/// Returns the position of a run's deletion. If retention has removed the event of the deletion, the function returns
/// the newest position of the log.
fn read_deletion_position(tx: &mut dyn Tx, key: Key) -> Result<i64> {
    match events::newest_position_of_run(tx, key)? {
        0 => counters::newest_position(tx),
        position => Ok(position),
    }
}
