//! Tasks: ending the work on a task, and returning tasks to the queue.

use super::{Outcome, cancel};
use crate::domain::attempt::AttemptStatus;
use crate::domain::event::EventDraft;
use crate::domain::run::RunStatus;
use crate::domain::system_event::{self, AttemptRef};
use crate::domain::task::{Caller, DEPENDENCY_ABANDONED, Ending, Role, Task, TaskStatus};
use crate::error::{Error, Result, StaleToken};
use crate::store::{Limit, Page, Signal, Tx, attempts, dependencies, events, path_sets, ready, runs, tasks};

/// The `reason` in the event of a task that is pending again because the task that blocked it was requeued.
const UNBLOCKED: &str = "a task it depends on was requeued";

/// A call that ends the work on a task: CompleteTask, FailTask, ReleaseTask, BlockTask or AbandonTask.
#[derive(Debug, Clone)]
pub struct EndTask {
    /// The name of the RPC, for the event of a rejection.
    pub rpc: &'static str,
    /// The id of the task to end the work on.
    pub task_id: String,
    /// The caller that reports on the task.
    pub caller: Caller,
    /// The end of the work.
    pub ending: Ending,
}

/// Ends the work on a task. A stale token is rejected, and the rejection is committed as an event.
pub fn end(tx: &mut dyn Tx, request: &EndTask) -> Result<Outcome<Task>> {
    let task = tasks::get(tx, &request.task_id)?;
    let Some(role) = task.role_of(&request.caller) else {
        return reject_stale(tx, &task, request).map(Outcome::Rejected);
    };
    let run_status = runs::standing(tx, task.run_key)?.status;
    let next = task.ended(role, &request.ending, run_status, tx.now())?;
    tasks::save(tx, &next)?;
    let attempt = ended_attempt(tx, &task, role)?;
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

/// Returns the attempt that ends together with the work on the task. None if no attempt was running or has just expired.
fn ended_attempt(tx: &mut dyn Tx, task: &Task, role: Role) -> Result<Option<AttemptRef>> {
    if task.is_held() {
        return Ok(Some(AttemptRef { number: task.attempt_count, agent_id: task.agent_id.clone() }));
    }
    match &task.lease {
        Some(lease) if role == Role::LateHolder => {
            let attempt = attempts::of_token(tx, task.key, &lease.token)?;
            Ok(attempt.map(|(number, agent_id)| AttemptRef { number, agent_id }))
        }
        _ => Ok(None),
    }
}

fn reject_stale(tx: &mut dyn Tx, task: &Task, request: &EndTask) -> Result<Error> {
    let Caller::Holder(token) = &request.caller else {
        return Err(Error::internal("a call without a lease token was taken for a stale one"));
    };
    let stale = stale_token(tx, task, token)?;
    events::append(tx, task.run_key, &system_event::stale_write_rejected(task, request.rpc, &stale))?;
    Ok(Error::StaleLease(stale))
}

fn stale_token(tx: &mut dyn Tx, task: &Task, token: &str) -> Result<StaleToken> {
    let (attempt_number, agent_id) = attempts::of_token(tx, task.key, token)?.unzip();
    Ok(StaleToken {
        task_id: task.id.clone(),
        attempt_number,
        agent_id: agent_id.flatten(),
        current_attempt_number: task.attempt_count,
        current_status: task.status.name(),
        was_deleted: false,
    })
}

/// Checks that a lease token is not stale. Fails with STALE_LEASE otherwise, also if the task was deleted.
pub fn check_token(tx: &mut dyn Tx, task_id: &str, token: &str) -> Result<()> {
    let task = match tasks::get(tx, task_id) {
        Err(Error::NotFound { .. }) => return Err(Error::StaleLease(StaleToken::of_deleted_task(task_id))),
        found => found?,
    };
    if task.role_of(&Caller::Holder(token.to_owned())).is_some() {
        return Ok(());
    }
    Err(Error::StaleLease(stale_token(tx, &task, token)?))
}

/// Counts a completed task out of its dependents, and signals those that are ready now.
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

/// Blocks the pending dependents of an abandoned task, because they could never start.
fn block_dependents(tx: &mut dyn Tx, abandoned: &Task) -> Result<()> {
    for key in dependencies::dependents(tx, abandoned.key, TaskStatus::Pending)? {
        let dependent = tasks::by_key(tx, key)?.blocked_by_dependency(tx.now());
        tasks::save(tx, &dependent)?;
        events::append(tx, dependent.run_key, &system_event::task_blocked_by_dependency(&dependent))?;
    }
    Ok(())
}

/// Abandons a task for a replan or with its run, and keeps its summary as RunStore did. Returns the event, which the
/// caller appends in its order.
pub(super) fn abandon(tx: &mut dyn Tx, task: &Task) -> Result<EventDraft> {
    let next = task.moved(TaskStatus::Abandoned, tx.now());
    tasks::save(tx, &next)?;
    if task.is_held() {
        attempts::interrupt(tx, task, AttemptStatus::Abandoned)?;
    }
    signal_moved(tx, task, &next)?;
    Ok(system_event::task_abandoned_unreported(task))
}

/// Returns a blocked, abandoned or held task to the queue, and with it the tasks that are blocked only because this task
/// was abandoned.
pub fn requeue(tx: &mut dyn Tx, task_id: &str, reason: &str) -> Result<Task> {
    let task = tasks::get(tx, task_id)?;
    let run_status = runs::standing(tx, task.run_key)?.status;
    run_status.check_takes_requeue(&task.run_id)?;
    let next = task.requeued(tx.now())?;
    if dependencies::any_abandoned(tx, task.key)? {
        return Err(task.cannot_be("requeued while a task it depends on is abandoned: requeue that task first"));
    }
    let event = requeue_one(tx, &task, &next, reason)?;
    events::append(tx, task.run_key, &event)?;
    if task.status == TaskStatus::Abandoned {
        unblock_dependents(tx, &next)?;
    }
    Ok(next)
}

/// Returns all in-progress tasks of a run to the queue. Returns how many there were.
pub fn requeue_in_progress(tx: &mut dyn Tx, run_id: &str) -> Result<usize> {
    let run = runs::get(tx, run_id)?;
    run.status.check_takes_requeue(&run.id)?;
    let held = tasks::with_status(tx, run.key, TaskStatus::InProgress)?;
    if held.is_empty() {
        return Ok(0);
    }
    let mut drafts = Vec::with_capacity(held.len() + 1);
    for task in &held {
        let next = task.moved(TaskStatus::Pending, tx.now());
        drafts.push(requeue_one(tx, task, &next, "")?);
    }
    drafts.push(system_event::requeue_in_progress(held.len()));
    events::append_all(tx, run.key, &drafts)?;
    Ok(held.len())
}

/// Saves a task that is pending again, and ends its attempt. Returns the event.
fn requeue_one(tx: &mut dyn Tx, task: &Task, next: &Task, reason: &str) -> Result<EventDraft> {
    tasks::save(tx, next)?;
    if task.is_held() {
        attempts::interrupt(tx, task, AttemptStatus::Released)?;
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
        let event = requeue_one(tx, &task, &next, UNBLOCKED)?;
        events::append(tx, task.run_key, &event)?;
    }
    Ok(())
}

/// Lists tasks of a run in plan order, after an ordinal. An empty list of statuses means all.
pub fn list(tx: &mut dyn Tx, run_id: &str, statuses: &[TaskStatus], after: i64, limit: Limit) -> Result<Page<Task>> {
    let run_key = runs::key(tx, run_id)?;
    match statuses {
        [] => tasks::list(tx, run_key, after, limit),
        some => tasks::list_with_statuses(tx, run_key, some, after, limit),
    }
}

/// Signals that a task has moved to another status, for the calls that wait for its paths or for a ready task.
pub(super) fn signal_moved(tx: &mut dyn Tx, before: &Task, after: &Task) -> Result<()> {
    if let (true, Some(set)) = (before.is_held(), before.path_set_key) {
        let repo_path = path_sets::repo_path(tx, set)?;
        tx.signal(Signal::PathsFreed { repo_path });
    }
    signal_pending(tx, std::slice::from_ref(after));
    Ok(())
}

/// Signals that tasks of one run may be pending now: how many are ready, and when the next will be.
pub(super) fn signal_pending(tx: &mut dyn Tx, tasks: &[Task]) {
    let now = tx.now();
    let ready = tasks.iter().filter(|task| task.is_ready(now)).count();
    if let (Some(task), 1..) = (tasks.first(), ready) {
        tx.signal(Signal::Ready { run_key: task.run_key, tasks: ready });
    }
    let pending = tasks.iter().filter(|task| task.status == TaskStatus::Pending);
    if let Some(time) = pending.filter_map(|task| task.spec.wait_until(now)).min() {
        tx.signal(Signal::Due(time));
    }
}
