//! Putting tasks back into the plan.

use super::signal_moved;
use crate::domain::attempt::AttemptStatus;
use crate::domain::event::EventDraft;
use crate::domain::system_event;
use crate::domain::task::{DEPENDENCY_ABANDONED, Task, TaskStatus};
use crate::error::{Error, Result};
use crate::store::{Tx, attempts, dependencies, events, runs, tasks};

/// Why the tasks are pending again that an abandoned one had blocked.
const UNBLOCKED: &str = "a task it depends on was requeued";

/// Makes one task pending again, and with it what was blocked only because it was abandoned.
pub fn requeue(tx: &mut dyn Tx, task_id: &str, reason: &str) -> Result<Task> {
    let task = tasks::get(tx, task_id)?;
    runs::standing(tx, task.run_key)?.status.check_takes_requeue()?;
    let next = task.requeued(tx.now())?;
    if dependencies::any_abandoned(tx, task.key)? {
        let problem = "a task it depends on is abandoned: requeue that first".to_owned();
        return Err(Error::WrongStatus { current_status: task.status.name(), problem });
    }
    let event = put_back(tx, &task, &next, reason)?;
    events::append(tx, task.run_key, &event)?;
    if task.status == TaskStatus::Abandoned {
        unblock_dependents(tx, &next)?;
    }
    Ok(next)
}

fn put_back(tx: &mut dyn Tx, task: &Task, next: &Task, reason: &str) -> Result<EventDraft> {
    tasks::save(tx, next)?;
    if task.is_held() {
        attempts::cut_off(tx, task, AttemptStatus::Released)?;
    }
    signal_moved(tx, task, next)?;
    Ok(system_event::task_requeued(task, reason))
}

fn unblock_dependents(tx: &mut dyn Tx, requeued: &Task) -> Result<()> {
    for key in dependencies::dependents(tx, requeued.key, TaskStatus::Blocked)? {
        let task = tasks::by_key(tx, key)?;
        if task.blocker_signature.as_deref() != Some(DEPENDENCY_ABANDONED) || dependencies::any_abandoned(tx, key)? {
            continue;
        }
        let next = task.unblocked(tx.now());
        let event = put_back(tx, &task, &next, UNBLOCKED)?;
        events::append(tx, task.run_key, &event)?;
    }
    Ok(())
}

/// Makes all in-progress tasks of a run pending again; returns how many.
pub fn requeue_in_progress(tx: &mut dyn Tx, run_id: &str) -> Result<usize> {
    let run = runs::get(tx, run_id)?;
    run.status.check_takes_requeue()?;
    let held = tasks::with_status(tx, run.key, TaskStatus::InProgress)?;
    let mut log = Vec::with_capacity(held.len() + 1);
    for task in &held {
        let next = task.moved(TaskStatus::Pending, tx.now());
        log.push(put_back(tx, task, &next, "")?);
    }
    if !held.is_empty() {
        log.push(system_event::requeue_in_progress(held.len()));
        events::append_all(tx, run.key, &log)?;
    }
    Ok(held.len())
}
