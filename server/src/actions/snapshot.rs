//! The snapshot of a run: its state at one position of the log, from one read.

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

/// Maximum stored size of a list, in bytes. A larger list can't fit, because JSON text is at most six times as large as its
/// protobuf encoding.
const STORED_BYTES: usize = 6 * limits::SNAPSHOT_BYTES;

const EVERYTHING: Limit = Limit { rows: usize::MAX, bytes: STORED_BYTES };

/// Maximum numbers of entries in the lists of a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotLimits {
    /// Newest events.
    pub events: usize,
    /// Newest attempts.
    pub attempts: usize,
    /// Newest tasks in each list of tasks.
    pub tasks: usize,
}

/// The state of a run. Each list is in order, the oldest entry first.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct Snapshot {
    pub run: Run,
    pub agents: Vec<AgentState>,
    pub pending_tasks: Vec<Task>,
    pub in_progress_tasks: Vec<Task>,
    pub completed_tasks: Vec<Task>,
    /// Blocked and abandoned tasks.
    pub blocked_tasks: Vec<Task>,
    pub recent_attempts: Vec<TaskAttempt>,
    pub recent_events: Vec<Event>,
    pub approvals: Vec<Approval>,
    pub artifacts: Vec<Artifact>,
    /// The newest position of the log.
    pub position: i64,
}

/// Returns the error for a snapshot that exceeds `limits::SNAPSHOT_BYTES`.
pub fn too_large(run_id: &str) -> Error {
    Error::SnapshotTooLarge { run_id: run_id.to_owned(), limit: limits::SNAPSHOT_BYTES }
}

/// Takes the snapshot of a run. Fails as soon as one list alone is too large, so memory stays bounded.
pub fn take(tx: &mut dyn Tx, run_id: &str, limits: SnapshotLimits) -> Result<Snapshot> {
    let run = runs::get(tx, run_id)?;
    let reader = Reader { run_key: run.key, run_id, limits };
    Ok(Snapshot {
        pending_tasks: reader.tasks(tx, &[TaskStatus::Pending])?,
        in_progress_tasks: reader.tasks(tx, &[TaskStatus::InProgress])?,
        completed_tasks: reader.tasks(tx, &[TaskStatus::Completed])?,
        blocked_tasks: reader.tasks(tx, &[TaskStatus::Blocked, TaskStatus::Abandoned])?,
        agents: agents::list(tx, run.key)?,
        recent_attempts: reader.attempts(tx)?,
        recent_events: reader.events(tx)?,
        approvals: reader.approvals(tx)?,
        artifacts: reader.artifacts(tx)?,
        position: counters::newest_position(tx)?,
        run,
    })
}

/// Reads the lists of one snapshot.
struct Reader<'a> {
    run_key: Key,
    run_id: &'a str,
    limits: SnapshotLimits,
}

impl Reader<'_> {
    fn tasks(&self, tx: &mut dyn Tx, statuses: &[TaskStatus]) -> Result<Vec<Task>> {
        let rows = self.limits.tasks;
        let limit = Limit { rows, bytes: STORED_BYTES };
        let mut newest: Vec<Task> = Vec::new();
        for status in statuses {
            let page = tasks::newest_with_status(tx, self.run_key, *status, limit)?;
            newest.extend(self.fitting(page, rows)?);
        }
        newest.sort_by_key(|task| -task.ordinal);
        newest.truncate(rows);
        newest.reverse();
        Ok(newest)
    }

    fn attempts(&self, tx: &mut dyn Tx) -> Result<Vec<TaskAttempt>> {
        let rows = self.limits.attempts;
        let page = attempts::newest_of_run(tx, self.run_key, Limit { rows, bytes: STORED_BYTES })?;
        let mut newest = self.fitting(page, rows)?;
        newest.reverse();
        Ok(newest)
    }

    fn events(&self, tx: &mut dyn Tx) -> Result<Vec<Event>> {
        let rows = self.limits.events;
        let scan = events::Scan { run_key: Some(self.run_key), newest_first: true, ..events::Scan::default() };
        let found = events::scan(tx, &scan, Limit { rows, bytes: STORED_BYTES })?;
        if found.end != events::ScanEnd::Exhausted && found.events.len() < rows {
            return Err(too_large(self.run_id));
        }
        let mut newest = found.events;
        newest.reverse();
        Ok(newest)
    }

    fn approvals(&self, tx: &mut dyn Tx) -> Result<Vec<Approval>> {
        let filter = approvals::Filter { run_key: Some(self.run_key), verdicts: i64::MAX, source: None };
        let page = approvals::list(tx, &filter, 0, EVERYTHING)?;
        self.fitting(page, EVERYTHING.rows)
    }

    fn artifacts(&self, tx: &mut dyn Tx) -> Result<Vec<Artifact>> {
        let page = artifacts::list(tx, self.run_key, None, 0, EVERYTHING)?;
        self.fitting(page, EVERYTHING.rows)
    }

    /// Returns the rows of a page. Fails if the page ended because of its size and not because of its number of rows.
    fn fitting<T>(&self, page: Page<T>, rows: usize) -> Result<Vec<T>> {
        if page.is_last || page.rows.len() == rows { Ok(page.rows) } else { Err(too_large(self.run_id)) }
    }
}
