//! What one transaction does where more than a row is concerned: load, let `domain` decide, save, append the event, and
//! signal who waits. The RPCs and the sweeper share these; each is a body of `Store::transact`.

pub mod approval;
pub mod cancel;
pub mod claim;
pub mod delete_run;
pub mod end_task;
pub mod explain;
pub mod lease;
pub mod log;
pub mod paths;
pub mod plan;
pub mod requeue;
pub mod run_control;

use crate::domain::attempt::AttemptStatus;
use crate::domain::event::EventDraft;
use crate::domain::system_event;
use crate::domain::task::{Task, TaskStatus};
use crate::error::{Error, Result};
use crate::store::{Signal, Tx, attempts, path_sets, tasks};

/// What a body comes to when it does not fail.
pub enum Outcome<T> {
    /// It was done.
    Done(T),
    /// It was refused, and the refusal wrote something that is to stay.
    Refused(Error),
}

/// Says what the move of a task means to those who wait.
fn signal_moved(tx: &mut dyn Tx, before: &Task, after: &Task) -> Result<()> {
    if let (true, Some(set)) = (before.is_held(), before.path_set_key) {
        let repo_path = path_sets::repo_path(tx, set)?;
        tx.signal(Signal::PathsFreed { repo_path });
    }
    signal_pending(tx, std::slice::from_ref(after));
    Ok(())
}

/// Says that tasks of one run are pending now.
fn signal_pending(tx: &mut dyn Tx, tasks: &[Task]) {
    let now = tx.now();
    let ready = tasks.iter().filter(|task| task.is_ready(now));
    let ready: Vec<_> = ready.map(|task| task.run_key).collect();
    if let Some(run_key) = ready.first() {
        tx.signal(Signal::Ready { run_key: *run_key, tasks: ready.len() });
    }
    let pending = tasks.iter().filter(|task| task.status == TaskStatus::Pending);
    if let Some(time) = pending.filter_map(|task| task.spec.not_before_time).filter(|time| *time > now).min() {
        tx.signal(Signal::Due(time));
    }
}

/// Gives a task up for a replan or with its run. As the seed did, that leaves what was said of it before. Returns the
/// event, for the caller to append in its place.
fn give_up(tx: &mut dyn Tx, task: &Task) -> Result<EventDraft> {
    let next = task.moved(TaskStatus::Abandoned, tx.now());
    tasks::save(tx, &next)?;
    if task.is_held() {
        attempts::cut_off(tx, task, AttemptStatus::Abandoned)?;
    }
    signal_moved(tx, task, &next)?;
    Ok(system_event::task_given_up(task))
}
