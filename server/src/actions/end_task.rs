//! What ends the work on a task: completing, failing, releasing, blocking, abandoning.

use super::{Outcome, cancel, signal_moved};
use crate::domain::run::RunStatus;
use crate::domain::system_event;
use crate::domain::task::{Caller, Ending, Role, Task, TaskStatus};
use crate::error::{Error, Result, StaleToken};
use crate::store::{Signal, Tx, attempts, dependencies, events, ready, runs, tasks};

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
    let Some(role) = task.role_of(&request.caller) else {
        return refuse_stale(tx, &task, request).map(Outcome::Refused);
    };
    let run_status = runs::standing(tx, task.run_key)?.status;
    let next = task.ended(role, &request.ending, run_status, tx.now())?;
    tasks::save(tx, &next)?;
    let attempt = attempt_of(tx, &task, role)?;
    if attempt.is_some() {
        attempts::end(tx, &task, &request.ending)?;
    }
    events::append(tx, task.run_key, &system_event::task_ended(&next, attempt.as_ref(), &request.ending))?;
    match next.status {
        TaskStatus::Completed => open_dependents(tx, &next)?,
        TaskStatus::Abandoned => block_dependents(tx, &next)?,
        _ => {}
    }
    signal_moved(tx, &task, &next)?;
    if run_status == RunStatus::Cancelling {
        cancel::finish_if_idle(tx, task.run_key)?;
    }
    Ok(Outcome::Done(next))
}

/// The attempt that ends with it, and whose it is.
fn attempt_of(tx: &mut dyn Tx, task: &Task, role: Role) -> Result<Option<system_event::Attempt>> {
    if task.is_held() {
        return Ok(Some(system_event::Attempt { number: task.attempt_count, agent_id: task.agent_id.clone() }));
    }
    match &task.lease {
        Some(lease) if role == Role::LateHolder => {
            let claim = attempts::of_token(tx, task.key, &lease.token)?;
            Ok(claim.map(|(number, agent_id)| system_event::Attempt { number, agent_id }))
        }
        _ => Ok(None),
    }
}

/// The refusal is an event, so it is committed.
fn refuse_stale(tx: &mut dyn Tx, task: &Task, request: &EndTask) -> Result<Error> {
    let Caller::Holder(token) = &request.caller else { return Err(Error::internal("an operator has no token")) };
    let stale = stale_token(tx, task, token)?;
    events::append(tx, task.run_key, &system_event::stale_write_rejected(task, request.rpc, &stale))?;
    Ok(Error::StaleLease(stale))
}

/// What is known of a token that no longer holds its task.
fn stale_token(tx: &mut dyn Tx, task: &Task, token: &str) -> Result<StaleToken> {
    let (attempt_number, agent_id) = attempts::of_token(tx, task.key, token)?.unzip();
    Ok(StaleToken {
        attempt_number,
        agent_id: agent_id.flatten(),
        current_attempt_number: task.attempt_count,
        current_status: task.status.name(),
        was_deleted: false,
    })
}

/// What depends on a completed task waits for one less.
fn open_dependents(tx: &mut dyn Tx, completed: &Task) -> Result<()> {
    if dependencies::close(tx, completed.key)? == 0 {
        return Ok(());
    }
    let tasks = ready::count_dependents(tx, completed.key)?;
    if tasks > 0 {
        tx.signal(Signal::Ready { run_key: completed.run_key, tasks });
    }
    Ok(())
}

/// What depends on an abandoned task would wait for ever: say so at once.
fn block_dependents(tx: &mut dyn Tx, abandoned: &Task) -> Result<()> {
    for key in dependencies::dependents(tx, abandoned.key, TaskStatus::Pending)? {
        let dependent = tasks::by_key(tx, key)?.blocked_by_dependency(tx.now());
        tasks::save(tx, &dependent)?;
        events::append(tx, dependent.run_key, &system_event::task_blocked_by_dependency(&dependent))?;
    }
    Ok(())
}

/// Why a token can't be given out again, if it can't: it is stale by now.
pub fn refuse_if_stale(tx: &mut dyn Tx, task_id: &str, token: &str) -> Result<Option<Error>> {
    let task = match tasks::get(tx, task_id) {
        // Its run was deleted.
        Err(Error::NotFound { .. }) => return Ok(Some(Error::StaleLease(StaleToken::of_deleted_task()))),
        found => found?,
    };
    if task.role_of(&Caller::Holder(token.to_owned())).is_some() {
        return Ok(None);
    }
    stale_token(tx, &task, token).map(|stale| Some(Error::StaleLease(stale)))
}
