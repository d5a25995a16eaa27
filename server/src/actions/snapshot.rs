//! This module reads the snapshot of a run: the state of the run at one position of the log, read in one transaction.

use crate::domain::Key;
use crate::domain::agent::AgentState;
use crate::domain::approval::Approval;
use crate::domain::artifact::Artifact;
use crate::domain::attempt::TaskAttempt;
use crate::domain::event::Event;
use crate::domain::limits;
use crate::domain::run::Run;
use crate::domain::task::{Task, TaskStatus};
use crate::error::{Error, Result};
use crate::store::{Limit, Page, Tx, agents, approvals, artifacts, attempts, counters, events, runs, tasks};

/// Maximum stored size of a list, in bytes. A larger list can't fit into a snapshot, because JSON text is at most six
/// times as large as the protobuf encoding of the text.
const STORED_BYTES: usize = 6 * limits::SNAPSHOT_BYTES;

const EVERYTHING: Limit = Limit { rows: usize::MAX, bytes: STORED_BYTES };

/// Maximum numbers of entries in the lists of a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotLimits {
    /// Maximum number of events in the snapshot. Older events are omitted.
    pub events: usize,
    /// Maximum number of attempts in the snapshot. Older attempts are omitted.
    pub attempts: usize,
    /// Maximum number of tasks in each list of tasks. Older tasks are omitted.
    pub tasks: usize,
}

/// The state of a run at one position of the log. Agent states are ordered by role. All other lists are ordered from
/// the oldest to the newest entry.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents the fields.
pub struct Snapshot {
    pub run: Run,
    pub agents: Vec<AgentState>,
    pub pending_tasks: Vec<Task>,
    pub in_progress_tasks: Vec<Task>,
    pub completed_tasks: Vec<Task>,
    /// The tasks that are blocked or abandoned.
    pub blocked_tasks: Vec<Task>,
    pub recent_attempts: Vec<TaskAttempt>,
    pub recent_events: Vec<Event>,
    pub approvals: Vec<Approval>,
    pub artifacts: Vec<Artifact>,
    /// The newest position of the log when the snapshot was read.
    pub position: i64,
}

/// Returns the error for a snapshot that exceeds `limits::SNAPSHOT_BYTES`.
pub fn new_too_large_error(run_id: &str) -> Error {
    Error::SnapshotTooLarge { run_id: run_id.to_owned(), limit: limits::SNAPSHOT_BYTES }
}

/// Reads and returns the snapshot of a run. Fails if the run does not exist, or as soon as one list is larger than
/// `STORED_BYTES` (96 MiB), which bounds the memory of the read.
pub fn take(tx: &mut dyn Tx, run_id: &str, limits: SnapshotLimits) -> Result<Snapshot> {
    let run = runs::get(tx, run_id)?;
    let reader = SnapshotReader { run_key: run.key, run_id, limits };
    Ok(Snapshot {
        pending_tasks: reader.read_tasks(tx, &[TaskStatus::Pending])?,
        in_progress_tasks: reader.read_tasks(tx, &[TaskStatus::InProgress])?,
        completed_tasks: reader.read_tasks(tx, &[TaskStatus::Completed])?,
        blocked_tasks: reader.read_tasks(tx, &[TaskStatus::Blocked, TaskStatus::Abandoned])?,
        agents: agents::list(tx, run.key)?,
        recent_attempts: reader.read_attempts(tx)?,
        recent_events: reader.read_events(tx)?,
        approvals: reader.read_approvals(tx)?,
        artifacts: reader.read_artifacts(tx)?,
        position: counters::newest_position(tx)?,
        run,
    })
}

/// Reads the lists of a run for one snapshot.
struct SnapshotReader<'a> {
    run_key: Key,
    run_id: &'a str,
    limits: SnapshotLimits,
}

impl SnapshotReader<'_> {
    fn read_tasks(&self, tx: &mut dyn Tx, statuses: &[TaskStatus]) -> Result<Vec<Task>> {
        let rows = self.limits.tasks;
        let limit = Limit { rows, bytes: STORED_BYTES };
        let mut newest: Vec<Task> = Vec::new();
        for status in statuses {
            let page = tasks::list_newest_with_status(tx, self.run_key, *status, limit)?;
            newest.extend(self.complete_rows(page, rows)?);
        }
        newest.sort_by_key(|task| -task.ordinal);
        newest.truncate(rows);
        newest.reverse();
        Ok(newest)
    }

    fn read_attempts(&self, tx: &mut dyn Tx) -> Result<Vec<TaskAttempt>> {
        let rows = self.limits.attempts;
        let page = attempts::list_newest_of_run(tx, self.run_key, Limit { rows, bytes: STORED_BYTES })?;
        let mut newest = self.complete_rows(page, rows)?;
        newest.reverse();
        Ok(newest)
    }

    fn read_events(&self, tx: &mut dyn Tx) -> Result<Vec<Event>> {
        let rows = self.limits.events;
        let scan = events::Scan { run_key: Some(self.run_key), newest_first: true, ..events::Scan::default() };
        let found = events::scan(tx, &scan, Limit { rows, bytes: STORED_BYTES })?;
        if found.end != events::ScanEnd::Exhausted && found.events.len() < rows {
            return Err(new_too_large_error(self.run_id));
        }
        let mut newest = found.events;
        newest.reverse();
        Ok(newest)
    }

    fn read_approvals(&self, tx: &mut dyn Tx) -> Result<Vec<Approval>> {
        let filter = approvals::Filter { run_key: Some(self.run_key), verdicts: i64::MAX, source: None };
        let page = approvals::list(tx, &filter, 0, EVERYTHING)?;
        self.complete_rows(page, EVERYTHING.rows)
    }

    fn read_artifacts(&self, tx: &mut dyn Tx) -> Result<Vec<Artifact>> {
        let page = artifacts::list(tx, self.run_key, None, 0, EVERYTHING)?;
        self.complete_rows(page, EVERYTHING.rows)
    }

    /// Returns the rows of a page. Fails if the page reached its maximum size in bytes before its maximum number of
    /// rows.
    fn complete_rows<T>(&self, page: Page<T>, rows: usize) -> Result<Vec<T>> {
        if page.is_last || page.rows.len() == rows { Ok(page.rows) } else { Err(new_too_large_error(self.run_id)) }
    }
}
