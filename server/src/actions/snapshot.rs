//! This module reads the snapshot of a run: the state of the run at one position of the log, read in one transaction.

use std::cmp::Reverse;

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

/// Maximum size of the entries that the server reads at once. The entries of a page are in memory at the same time.
const PAGE: Limit = Limit { rows: limits::PAGE_SIZE, bytes: 256 * 1024 };

/// Maximum numbers of entries in the lists of a snapshot. Older entries are omitted. None means no maximum.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotLimits {
    /// Maximum number of events. The total size of the events is also limited, to `limits::RECENT_BYTES`.
    pub events: usize,
    /// Maximum number of attempts. The total size of the attempts is also limited, to `limits::RECENT_BYTES`.
    pub attempts: usize,
    /// Maximum number of tasks in each list of tasks.
    pub tasks: Option<usize>,
    /// Maximum number of approvals.
    pub approvals: Option<usize>,
    /// Maximum number of artifacts.
    pub artifacts: Option<usize>,
}

/// One of the lists of tasks in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TaskList {
    Pending,
    InProgress,
    Completed,
    /// The tasks that are blocked or abandoned.
    Blocked,
}

impl TaskList {
    const ALL: [Self; 4] = [Self::Pending, Self::InProgress, Self::Completed, Self::Blocked];

    fn statuses(self) -> &'static [TaskStatus] {
        match self {
            Self::Pending => &[TaskStatus::Pending],
            Self::InProgress => &[TaskStatus::InProgress],
            Self::Completed => &[TaskStatus::Completed],
            Self::Blocked => &[TaskStatus::Blocked, TaskStatus::Abandoned],
        }
    }
}

/// An entry of a snapshot.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents the entries.
pub enum Entry {
    Run(Run),
    Agent(AgentState),
    Task(TaskList, Task),
    Attempt(TaskAttempt),
    Event(Event),
    Approval(Approval),
    Artifact(Artifact),
}

/// Handles one entry of a snapshot.
pub type EntryHandler<'a> = dyn FnMut(Entry) -> Result<()> + 'a;

/// Returns the error for a snapshot that exceeds `limits::SNAPSHOT_BYTES`.
pub fn new_too_large_error(run_id: &str) -> Error {
    Error::SnapshotTooLarge { run_id: run_id.to_owned(), limit: limits::SNAPSHOT_BYTES }
}

/// Reads the snapshot of a run, passes each entry to `handle`, and returns the newest position of the log. The run
/// comes first, then the lists in the order of the proto. Agent states are ordered by role, and all other lists from
/// the oldest to the newest entry. Fails if the run does not exist or `handle` fails.
pub fn read(tx: &mut dyn Tx, run_id: &str, limits: &SnapshotLimits, handle: &mut EntryHandler) -> Result<i64> {
    let run = runs::get(tx, run_id)?;
    let run_key = run.key;
    handle(Entry::Run(run))?;
    read_agents(tx, run_key, handle)?;
    for list in TaskList::ALL {
        read_tasks(tx, run_key, list, limits.tasks, handle)?;
    }
    read_attempts(tx, run_key, limits.attempts)?.into_iter().try_for_each(|attempt| handle(Entry::Attempt(attempt)))?;
    read_events(tx, run_key, limits.events)?.into_iter().try_for_each(|event| handle(Entry::Event(event)))?;
    read_approvals(tx, run_key, limits.approvals, handle)?;
    read_artifacts(tx, run_key, limits.artifacts, handle)?;
    counters::newest_position(tx)
}

/// Reads a list page by page. `next_page` returns the page after a key, and `key` returns the key of a row.
fn read_pages<T, K>(
    mut after: K,
    mut next_page: impl FnMut(&K) -> Result<Page<T>>,
    key: impl Fn(&T) -> K,
    mut handle: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    loop {
        let page = next_page(&after)?;
        let Some(last) = page.rows.last() else {
            return Ok(());
        };
        after = key(last);
        page.rows.into_iter().try_for_each(&mut handle)?;
        if page.is_last {
            return Ok(());
        }
    }
}

fn read_agents(tx: &mut dyn Tx, run_key: Key, handle: &mut EntryHandler) -> Result<()> {
    read_pages(
        String::new(),
        |after| agents::list_after(tx, run_key, after, PAGE),
        |agent| agent.role.clone(),
        |agent| handle(Entry::Agent(agent)),
    )
}

fn read_tasks(
    tx: &mut dyn Tx,
    run_key: Key,
    list: TaskList,
    limit: Option<usize>,
    handle: &mut EntryHandler,
) -> Result<()> {
    let statuses = list.statuses();
    let after = match limit {
        None => 0,
        Some(limit) => i64::from(find_ordinal_before_newest(tx, run_key, statuses, limit)?),
    };
    read_pages(
        after,
        |after| tasks::list_with_statuses(tx, run_key, statuses, *after, PAGE),
        |task| i64::from(task.ordinal),
        |task| handle(Entry::Task(list, task)),
    )
}

/// Returns the ordinal of the newest task that is not among the `count` newest tasks with one of the statuses. Returns
/// 0 if there is no such task.
fn find_ordinal_before_newest(tx: &mut dyn Tx, run_key: Key, statuses: &[TaskStatus], count: usize) -> Result<i32> {
    let mut ordinals = Vec::new();
    for status in statuses {
        ordinals.extend(tasks::newest_ordinals(tx, run_key, *status, count.saturating_add(1))?);
    }
    ordinals.sort_unstable_by_key(|ordinal| Reverse(*ordinal));
    Ok(ordinals.get(count).copied().unwrap_or(0))
}

/// Returns the newest attempts of a run, oldest first.
fn read_attempts(tx: &mut dyn Tx, run_key: Key, count: usize) -> Result<Vec<TaskAttempt>> {
    let limit = Limit { rows: count, bytes: limits::RECENT_BYTES };
    let mut newest = attempts::list_newest_of_run(tx, run_key, limit)?.rows;
    newest.reverse();
    Ok(newest)
}

/// Returns the newest events of a run, oldest first.
fn read_events(tx: &mut dyn Tx, run_key: Key, count: usize) -> Result<Vec<Event>> {
    let scan = events::Scan { run_key: Some(run_key), newest_first: true, ..events::Scan::default() };
    let limit = Limit { rows: count, bytes: limits::RECENT_BYTES };
    let mut newest = events::scan(tx, &scan, limit)?.events;
    newest.reverse();
    Ok(newest)
}

fn read_approvals(tx: &mut dyn Tx, run_key: Key, limit: Option<usize>, handle: &mut EntryHandler) -> Result<()> {
    let filter = approvals::Filter { run_key: Some(run_key), verdicts: i64::MAX, source: None };
    let after = match limit {
        None => 0,
        Some(limit) => approvals::find_key_before_newest(tx, run_key, limit)?,
    };
    read_pages(
        after,
        |after| approvals::list(tx, &filter, *after, PAGE),
        |approval| approval.key,
        |approval| handle(Entry::Approval(approval)),
    )
}

fn read_artifacts(tx: &mut dyn Tx, run_key: Key, limit: Option<usize>, handle: &mut EntryHandler) -> Result<()> {
    let after = match limit {
        None => 0,
        Some(limit) => artifacts::find_key_before_newest(tx, run_key, limit)?,
    };
    read_pages(
        after,
        |after| artifacts::list(tx, run_key, None, *after, PAGE),
        |artifact| artifact.key,
        |artifact| handle(Entry::Artifact(artifact)),
    )
}
