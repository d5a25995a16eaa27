//! What ends the work on a task: completing, blocking, abandoning, requeueing.

use super::mutate::Outcome;
use crate::domain::attempt::AttemptStatus;
use crate::domain::system_event;
use crate::domain::task::{Caller, EndStatus, Ending, Task, TaskStatus};
use crate::error::{Error, Result, StaleToken};
use crate::store::{Tx, attempts, dependencies, events, runs, tasks};

/// A request to end the work on a task.
#[derive(Debug, Clone)]
pub struct EndTask {
    /// The RPC, for the event of a refusal.
    pub rpc: &'static str,
    /// Which task.
    pub task_id: String,
    /// Who asks.
    pub caller: Caller,
    /// As what it ends.
    pub ending: Ending,
}

/// Ends the work on a task, or notes that a stale token was refused.
pub fn end(tx: &mut dyn Tx, request: &EndTask) -> Result<Outcome<Task>> {
    let task = tasks::get(tx, &request.task_id)?;
    if let Caller::Holder(token) = &request.caller
        && !task.is_held_by(token)
    {
        return refuse_stale(tx, &task, token, request.rpc).map(Outcome::Refused);
    }
    let next = task.ended(&request.caller, &request.ending, tx.now())?;
    tasks::save(tx, &next)?;
    if task.is_held() {
        attempts::end(tx, &task, &request.ending)?;
    }
    events::append(tx, task.run_key, &system_event::task_ended(&task, &request.ending))?;
    match request.ending.to {
        EndStatus::Completed => dependencies::close(tx, task.key)?,
        EndStatus::Abandoned => block_dependents(tx, &task)?,
        EndStatus::Blocked => {}
    }
    Ok(Outcome::Done(next))
}

/// The refusal is an event, so it is committed.
fn refuse_stale(tx: &mut dyn Tx, task: &Task, token: &str, rpc: &str) -> Result<Error> {
    let stale = stale_token(tx, task, token)?;
    events::append(tx, task.run_key, &system_event::stale_write_rejected(task, rpc, &stale))?;
    Ok(Error::StaleLease(stale))
}

/// What is known of a token that no longer holds its task.
pub fn stale_token(tx: &mut dyn Tx, task: &Task, token: &str) -> Result<StaleToken> {
    let (attempt_number, agent_id) = attempts::of_token(tx, task.key, token)?.unzip();
    Ok(StaleToken {
        attempt_number,
        agent_id: agent_id.flatten(),
        current_attempt_number: task.attempt_count,
        current_status: task.status.name(),
    })
}

/// What depends on an abandoned task would wait for ever: say so at once.
fn block_dependents(tx: &mut dyn Tx, abandoned: &Task) -> Result<()> {
    for key in dependencies::pending_dependents(tx, abandoned.key)? {
        let dependent = tasks::by_key(tx, key)?.blocked_by_dependency(tx.now());
        tasks::save(tx, &dependent)?;
        events::append(tx, dependent.run_key, &system_event::task_blocked_by_dependency(&dependent))?;
    }
    Ok(())
}

/// Makes all in-progress tasks of a run pending again; returns how many.
pub fn requeue_in_progress(tx: &mut dyn Tx, run_id: &str) -> Result<usize> {
    let run = runs::get(tx, run_id)?;
    run.check_takes_requeue()?;
    let held = tasks::with_status(tx, run.key, TaskStatus::InProgress)?;
    let mut log = Vec::with_capacity(held.len() + 1);
    for task in &held {
        let next = task.moved(TaskStatus::Pending, tx.now());
        tasks::save(tx, &next)?;
        attempts::cut_off(tx, task, AttemptStatus::Released)?;
        log.push(system_event::task_requeued(task));
    }
    if !held.is_empty() {
        log.push(system_event::requeue_in_progress(held.len()));
        events::append_all(tx, run.key, &log)?;
    }
    Ok(held.len())
}
