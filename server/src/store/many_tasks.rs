//! This module changes all tasks of a run that have one status, or all dependents of a task, with one statement for all
//! tasks. A statement for each task would delay all other calls, because the calls wait for the writer.

use super::events;
use super::names::task_status;
use super::{Tx, all, any, params};
use crate::domain::Key;
use crate::domain::event::EventDraft;
use crate::domain::task::{DEPENDENCY_ABANDONED, TaskStatus};
use crate::error::{Error, Result};

/// Maximum number of tasks whose summaries are held in memory at a time.
const PAGE: i64 = 500;

/// Selects the tasks of a change. No agent holds a lease on the selected tasks.
#[derive(Debug, Clone, Copy)]
pub enum Selection {
    /// The pending tasks of a run.
    PendingOfRun(Key),
    /// The blocked tasks of a run.
    BlockedOfRun(Key),
    /// The pending tasks that depend on a task.
    PendingDependents(Key),
    /// The tasks that depend on a task and are blocked only because a dependency was abandoned, if no dependency is
    /// abandoned any longer.
    UnblockedDependents(Key),
}

macro_rules! of_run {
    ($status:expr) => {
        concat!("t.run_key = $1 AND t.status = ", $status)
    };
}

macro_rules! dependents {
    ($status:expr) => {
        concat!("t.key IN (SELECT task_key FROM task_dependencies WHERE depends_on_key = $1) AND t.status = ", $status)
    };
}

macro_rules! unblocked_dependents {
    () => {
        concat!(
            dependents!(task_status!(BLOCKED)),
            " AND t.blocker_signature = 'dependency_abandoned' AND NOT EXISTS (
                SELECT 1 FROM task_dependencies d JOIN tasks o ON o.key = d.depends_on_key
                WHERE d.task_key = t.key AND o.status = ",
            task_status!(ABANDONED),
            ")"
        )
    };
}

/// Expands to a statement for the tasks `t` of a selection. The statement's parameter `$1` is the key in the selection.
macro_rules! for_selection {
    ($selection:expr, $before:expr, $after:expr) => {
        match $selection {
            Selection::PendingOfRun(_) => concat!($before, of_run!(task_status!(PENDING)), $after),
            Selection::BlockedOfRun(_) => concat!($before, of_run!(task_status!(BLOCKED)), $after),
            Selection::PendingDependents(_) => concat!($before, dependents!(task_status!(PENDING)), $after),
            Selection::UnblockedDependents(_) => concat!($before, unblocked_dependents!(), $after),
        }
    };
}

impl Selection {
    fn key(self) -> Key {
        let (Self::PendingOfRun(key)
        | Self::BlockedOfRun(key)
        | Self::PendingDependents(key)
        | Self::UnblockedDependents(key)) = self;
        key
    }
}

/// The events of a change, one for each selected task.
pub struct TaskEvents<F> {
    /// The event of a task that has neither a summary nor a blocker signature.
    pub draft: EventDraft,
    /// Function that returns the event of a task with a summary or a blocker signature. If the event contains neither,
    /// the value is None.
    pub with_report: Option<F>,
}

/// The tasks that a transaction has selected for a change. The transaction has appended one event for each task. The
/// positions of these events identify the tasks, so the update does not evaluate the selection again.
#[derive(Debug, Clone, Copy)]
pub struct SelectedTasks {
    /// Position before the first of the events.
    after_position: i64,
    /// Position of the last of the events.
    last_position: i64,
}

impl SelectedTasks {
    /// Returns the number of the tasks.
    pub fn count(self) -> usize {
        usize::try_from(self.last_position - self.after_position).unwrap_or(0)
    }
}

/// Appends an event for each selected task of a run, in plan order. Returns the tasks, or None if no task is selected.
/// The caller must then change the tasks with `set_status` or `set_pending`.
pub fn append_events<F>(
    tx: &mut dyn Tx,
    run_key: Key,
    selection: Selection,
    events: &TaskEvents<F>,
) -> Result<Option<SelectedTasks>>
where
    F: Fn(Option<&str>, Option<&str>) -> EventDraft,
{
    let first_task = for_selection!(selection, "SELECT t.key FROM tasks t WHERE ", " LIMIT 1");
    if !any(tx, first_task, params![selection.key()])? {
        return Ok(None);
    }
    // Reserve one event to learn the numbers that come before the event. The number of inserted rows then shows how
    // many more events to reserve.
    let before = events::reserve(tx, run_key, 1)?;
    let draft = &events.draft;
    let sql = for_selection!(
        selection,
        "INSERT INTO events (position, run_key, seq, task_key, source, kind, message, payload, create_time)
        SELECT $2 + ROW_NUMBER() OVER (ORDER BY t.ordinal), t.run_key, $3 + ROW_NUMBER() OVER (ORDER BY t.ordinal),
            t.key, $4, $5, $6, $7, $8
        FROM tasks t WHERE ",
        " ORDER BY t.ordinal"
    );
    let now = tx.now();
    let key = selection.key();
    let bound = params![key, before.position, before.seq, draft.source, draft.kind, draft.message, draft.payload, now];
    let appended = usize::try_from(tx.execute(sql, bound)?).map_err(Error::internal)?;
    match appended {
        0 => return Err(Error::internal("no event was inserted for the selected tasks: report the bug")),
        1 => {}
        _ => drop(events::reserve(tx, run_key, appended - 1)?),
    }
    let last_position = before.position + i64::try_from(appended).map_err(Error::internal)?;
    let selected = SelectedTasks { after_position: before.position, last_position };
    if let Some(with_report) = &events.with_report {
        complete_payloads(tx, selected, with_report)?;
    }
    Ok(Some(selected))
}

/// Replaces the payloads of the appended events whose tasks have a summary or a blocker signature.
fn complete_payloads(
    tx: &mut dyn Tx,
    selected: SelectedTasks,
    with_report: &impl Fn(Option<&str>, Option<&str>) -> EventDraft,
) -> Result<()> {
    let sql = "SELECT e.position, t.implementation_summary, t.blocker_signature
        FROM events e JOIN tasks t ON t.key = e.task_key
        WHERE e.position > $1 AND e.position <= $2
            AND (t.implementation_summary IS NOT NULL OR t.blocker_signature IS NOT NULL)
        ORDER BY e.position LIMIT $3";
    let mut after = selected.after_position;
    loop {
        let reports: Vec<(i64, Option<String>, Option<String>)> =
            all(tx, sql, params![after, selected.last_position, PAGE], |row| {
                Ok((row.take()?, row.take()?, row.take()?))
            })?;
        for (position, summary, signature) in &reports {
            let payload = with_report(summary.as_deref(), signature.as_deref()).payload;
            tx.write("UPDATE events SET payload = $2 WHERE position = $1", params![position, payload])?;
            after = *position;
        }
        if reports.is_empty() {
            return Ok(());
        }
    }
}

/// Expands to an UPDATE statement that sets columns of selected tasks. The statement's parameters `$1` and `$2` are the
/// positions in `SelectedTasks`, and `$3` is the update time.
macro_rules! update_selected {
    ($($assignments:expr),*) => {
        concat!(
            "UPDATE tasks SET agent_id = NULL, lease_token = NULL, lease_duration = NULL, lease_expire_time = NULL,
                revision = revision + 1, update_time = $3, ",
            $($assignments,)*
            " WHERE key IN (SELECT task_key FROM events WHERE position > $1 AND position <= $2)"
        )
    };
}

/// Sets the status of the selected tasks to `to`, and makes their lease tokens stale. If `to` is BLOCKED, the function
/// also sets the blocker signature to `DEPENDENCY_ABANDONED`. Otherwise, the blocker signature does not change.
pub fn set_status(tx: &mut dyn Tx, selected: SelectedTasks, to: TaskStatus) -> Result<()> {
    let signature = (to == TaskStatus::Blocked).then_some(DEPENDENCY_ABANDONED);
    let sql = update_selected!("status = $4, blocker_signature = COALESCE($5, blocker_signature)");
    let now = tx.now();
    tx.write(sql, params![selected.after_position, selected.last_position, now, to, signature])
}

/// Sets the status of the selected tasks to PENDING, and records the change for the claim index.
pub fn set_pending(tx: &mut dyn Tx, selected: SelectedTasks) -> Result<()> {
    let version = tx.next_claim_version()?;
    let sql = update_selected!(
        "status = ",
        task_status!(PENDING),
        ", blocker_signature = NULL, is_delayed = CASE WHEN not_before_time > $3 THEN 1 ELSE 0 END, claim_version = $4"
    );
    let now = tx.now();
    tx.write(sql, params![selected.after_position, selected.last_position, now, version])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_of_unblocked_dependents_uses_the_signature_of_blocked_dependents() {
        assert!(unblocked_dependents!().contains(&format!("t.blocker_signature = '{DEPENDENCY_ABANDONED}'")));
    }
}
