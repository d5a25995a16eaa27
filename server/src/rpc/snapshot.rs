//! A run and what is around it, from one read.

use prost::Message;
use runhub_api::v1;

use super::convert::{oldest_first, protos};
use super::{field, page};
use crate::domain::Key;
use crate::domain::limits;
use crate::domain::task::{Task, TaskStatus};
use crate::error::{Error, Result};
use crate::store::{Limit, Page, Tx, agents, approvals, artifacts, attempts, counters, events, runs, tasks};

/// How much of it is asked for.
pub struct Limits {
    events: Limit,
    attempts: Limit,
    tasks: usize,
}

impl Limits {
    /// Parses the limits of a request.
    pub fn parse(request: &v1::GetRunSnapshotRequest) -> Result<Self> {
        let whole = |rows: usize| Limit { rows, bytes: STORED_BYTES };
        let tasks = usize::try_from(field::count("task_limit", request.task_limit)?).unwrap_or(0);
        Ok(Self {
            events: whole(page::list_length("event_limit", request.event_limit, limits::DEFAULT_EVENTS)?),
            attempts: whole(page::list_length("attempt_limit", request.attempt_limit, limits::DEFAULT_ATTEMPTS)?),
            tasks: if tasks == 0 { usize::MAX } else { tasks },
        })
    }
}

/// Takes the snapshot. It gives up as soon as a list alone is too large, so memory stays bounded.
pub fn take(tx: &mut dyn Tx, run_id: &str, asked: &Limits) -> Result<v1::RunSnapshot> {
    let run = runs::get(tx, run_id)?;
    let key = run.key;
    let mut tasks = |statuses: &[TaskStatus]| newest_tasks(tx, key, statuses, asked.tasks);
    let snapshot = v1::RunSnapshot {
        pending_tasks: tasks(&[TaskStatus::Pending])?,
        in_progress_tasks: tasks(&[TaskStatus::InProgress])?,
        completed_tasks: tasks(&[TaskStatus::Completed])?,
        blocked_tasks: tasks(&[TaskStatus::Blocked, TaskStatus::Abandoned])?,
        run: Some(run.into()),
        agents: protos(agents::list(tx, key)?),
        recent_attempts: oldest_first(fitting(attempts::newest_of_run(tx, key, asked.attempts)?, asked.attempts.rows)?),
        recent_events: recent_events(tx, key, asked.events)?,
        approvals: all_approvals(tx, key)?,
        artifacts: protos(fitting(artifacts::list(tx, key, None, 0, EVERYTHING)?, usize::MAX)?),
        position: counters::newest_position(tx)?,
    };
    // What is around a snapshot in its response is a tag and a length.
    if snapshot.encoded_len() + 8 > limits::SNAPSHOT_BYTES {
        return Err(TOO_LARGE);
    }
    Ok(snapshot)
}

const TOO_LARGE: Error = Error::SnapshotTooLarge { limit: limits::SNAPSHOT_BYTES };

/// A list that is larger than this as stored can't fit: JSON text may be six times as large as its protobuf.
const STORED_BYTES: usize = 6 * limits::SNAPSHOT_BYTES;

const EVERYTHING: Limit = Limit { rows: usize::MAX, bytes: STORED_BYTES };

/// The rows of a page that ended because of their number, not their size.
fn fitting<T>(page: Page<T>, rows: usize) -> Result<Vec<T>> {
    if page.is_last || page.rows.len() == rows { Ok(page.rows) } else { Err(TOO_LARGE) }
}

fn newest_tasks(tx: &mut dyn Tx, run_key: Key, statuses: &[TaskStatus], rows: usize) -> Result<Vec<v1::Task>> {
    let mut newest: Vec<Task> = Vec::new();
    for status in statuses {
        let limit = Limit { rows, bytes: STORED_BYTES };
        newest.extend(fitting(tasks::newest_with_status(tx, run_key, *status, limit)?, rows)?);
    }
    newest.sort_by_key(|task| -task.ordinal);
    newest.truncate(rows);
    Ok(oldest_first(newest))
}

fn recent_events(tx: &mut dyn Tx, run_key: Key, limit: Limit) -> Result<Vec<v1::Event>> {
    let newest = events::Scan { run_key: Some(run_key), newest_first: true, ..events::Scan::default() };
    let found = events::scan(tx, &newest, limit)?;
    if found.end != events::ScanEnd::Exhausted && found.events.len() < limit.rows {
        return Err(TOO_LARGE);
    }
    Ok(oldest_first(found.events))
}

fn all_approvals(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<v1::Approval>> {
    let filter = approvals::Filter { run_key: Some(run_key), verdicts: i64::MAX, source: None };
    Ok(protos(fitting(approvals::list(tx, &filter, 0, EVERYTHING)?, usize::MAX)?))
}
