//! This module completes, fails, releases, blocks, abandons and requeues tasks.

use super::{Outcome, cancel};
use crate::domain::Key;
use crate::domain::attempt::AttemptStatus;
use crate::domain::event::EventDraft;
use crate::domain::run::RunStatus;
use crate::domain::system_event::{self, AttemptRef};
use crate::domain::task::{Caller, Ending, Role, Task, TaskStatus};
use crate::error::{Error, Result, StaleToken};
use crate::store::many_tasks::{self, Selection, TaskEvents};
use crate::store::{Limit, Page, Signal, Tx, attempts, dependencies, due, events, path_sets, ready, runs, tasks};

/// The `reason` in the event of a task that becomes pending because the task's abandoned dependency was requeued.
const UNBLOCKED: &str = "a task it depends on was requeued";

/// A CompleteTask, FailTask, ReleaseTask, BlockTask or AbandonTask call.
#[derive(Debug, Clone)]
pub struct EndTask {
    /// The name of the RPC. If the call is rejected, the event records this name.
    pub rpc: &'static str,
    /// The id of the task that the call changes.
    pub task_id: String,
    /// The caller: the holder of a lease token, or an operator.
    pub caller: Caller,
    /// The new status of the task, and the data that the caller reports.
    pub ending: Ending,
}

/// Completes, fails, releases, blocks or abandons a task, and returns the changed task. If the lease token is stale,
/// the call is rejected, and the rejection is committed as an event. Fails if the caller's role or the task's status
/// does not allow the call.
pub fn end(tx: &mut dyn Tx, request: &EndTask) -> Result<Outcome<Task>> {
    let (task, has_dependents) = tasks::get_with_dependents(tx, &request.task_id)?;
    let Some(role) = task.role_of(&request.caller) else {
        return reject_stale(tx, &task, request).map(Outcome::Rejected);
    };
    let run_status = runs::get_status_and_grace(tx, task.run_key)?.status;
    let next = task.ended(role, &request.ending, run_status, tx.now())?;
    tasks::save(tx, &next)?;
    let attempt = find_ended_attempt(tx, &task, role)?;
    if attempt.is_some() {
        attempts::end(tx, &task, &request.ending)?;
    }
    events::append(tx, task.run_key, &system_event::task_ended(&next, attempt.as_ref(), &request.ending))?;
    match next.status {
        TaskStatus::Completed if has_dependents => signal_ready_dependents(tx, &next)?,
        TaskStatus::Abandoned if has_dependents => block_dependents(tx, &next)?,
        _ => {}
    }
    signal_status_change(tx, &task, &next)?;
    if run_status == RunStatus::Cancelling {
        cancel::finish_if_idle(tx, task.run_key)?;
    }
    Ok(Outcome::Done(next))
}

/// Returns the attempt that the call ends or whose result the call corrects: the running attempt, or the attempt of the
/// caller's expired lease. Returns None if the task has no running attempt and the caller holds no expired lease of the
/// task.
fn find_ended_attempt(tx: &mut dyn Tx, task: &Task, role: Role) -> Result<Option<AttemptRef>> {
    if task.is_held() {
        return Ok(Some(AttemptRef { number: task.attempt_count, agent_id: task.agent_id.clone() }));
    }
    match &task.lease {
        Some(lease) if role == Role::LateHolder => {
            let attempt = attempts::find_claim(tx, task.key, &lease.token)?;
            Ok(attempt.map(|(number, agent_id)| AttemptRef { number, agent_id }))
        }
        _ => Ok(None),
    }
}

fn reject_stale(tx: &mut dyn Tx, task: &Task, request: &EndTask) -> Result<Error> {
    let Caller::Holder(token) = &request.caller else {
        let task_id = &task.id;
        let rpc = request.rpc;
        return Err(Error::internal(format!(
            "{rpc} for task {task_id} has no lease token, but was rejected as stale: report the bug"
        )));
    };
    let stale = read_stale_token(tx, task, token)?;
    events::append(tx, task.run_key, &system_event::stale_write_rejected(task, request.rpc, &stale))?;
    Ok(Error::StaleLease(stale))
}

fn read_stale_token(tx: &mut dyn Tx, task: &Task, token: &str) -> Result<StaleToken> {
    let (attempt_number, agent_id) = attempts::find_claim(tx, task.key, token)?.unzip();
    Ok(StaleToken {
        task_id: task.id.clone(),
        attempt_number,
        agent_id: agent_id.flatten(),
        current_attempt_number: task.attempt_count,
        current_status: task.status.name(),
        was_deleted: false,
    })
}

/// Checks that a lease token is not stale. Fails with STALE_LEASE if the token is stale or the task was deleted.
pub fn check_token(tx: &mut dyn Tx, task_id: &str, token: &str) -> Result<()> {
    let task = match tasks::get(tx, task_id) {
        Err(Error::NotFound { .. }) => return Err(Error::StaleLease(StaleToken::of_deleted_task(task_id))),
        found => found?,
    };
    if task.role_of(&Caller::Holder(token.to_owned())).is_some() {
        return Ok(());
    }
    Err(Error::StaleLease(read_stale_token(tx, &task, token)?))
}

/// Decreases the number of open dependencies of the tasks that depend on a completed task, and signals the number of
/// ready dependents. There must be a task that depends on the completed task.
fn signal_ready_dependents(tx: &mut dyn Tx, completed: &Task) -> Result<()> {
    dependencies::decrement_open_dependencies(tx, completed.key)?;
    let tasks = ready::count_dependents(tx, completed.key)?;
    if tasks > 0 {
        tx.signal(Signal::Ready { run_key: completed.run_key, tasks });
    }
    Ok(())
}

/// Blocks the pending dependents of an abandoned task, because the dependents can never start.
fn block_dependents(tx: &mut dyn Tx, abandoned: &Task) -> Result<()> {
    let selection = Selection::PendingDependents(abandoned.key);
    let new_event = |summary: Option<&str>, _: Option<&str>| system_event::task_blocked_by_dependency(summary);
    let events = TaskEvents { draft: new_event(None, None), with_report: Some(new_event) };
    match many_tasks::append_events(tx, abandoned.run_key, selection, &events)? {
        Some(blocked) => many_tasks::set_status(tx, blocked, TaskStatus::Blocked),
        None => Ok(()),
    }
}

/// Abandons all pending tasks or all blocked tasks of a run, and appends their events. Returns the number of tasks.
pub(super) fn abandon_unleased(tx: &mut dyn Tx, run_key: Key, selection: Selection) -> Result<usize> {
    let new_event = system_event::unleased_task_abandoned;
    let events = TaskEvents { draft: new_event(None, None), with_report: Some(new_event) };
    let Some(abandoned) = many_tasks::append_events(tx, run_key, selection, &events)? else { return Ok(0) };
    many_tasks::set_status(tx, abandoned, TaskStatus::Abandoned)?;
    Ok(abandoned.count())
}

/// Abandons all tasks in progress of a run, and appends their events. Leaves the summaries of the tasks unchanged.
/// Returns the number of tasks.
pub(super) fn abandon_leased(tx: &mut dyn Tx, run_key: Key) -> Result<usize> {
    let leased = tasks::list_with_status(tx, run_key, TaskStatus::InProgress)?;
    abandon_each(tx, run_key, &leased)?;
    Ok(leased.len())
}

/// Abandons tasks of a run one by one, and appends their events. Leaves the summaries of the tasks unchanged.
pub(super) fn abandon_each(tx: &mut dyn Tx, run_key: Key, tasks: &[Task]) -> Result<()> {
    let mut drafts = Vec::with_capacity(tasks.len());
    for task in tasks {
        let next = task.with_status(TaskStatus::Abandoned, tx.now());
        tasks::save(tx, &next)?;
        if task.is_held() {
            attempts::end_without_report(tx, task, AttemptStatus::Abandoned)?;
        }
        signal_status_change(tx, task, &next)?;
        drafts.push(system_event::task_abandoned_without_report(task));
    }
    if !drafts.is_empty() {
        events::append_all(tx, run_key, &drafts)?;
    }
    Ok(())
}

/// Requeues a blocked, abandoned or in-progress task and returns the pending task. Also requeues the tasks that are
/// blocked only because this task was abandoned. Fails if the task is pending or completed, if a dependency of the task
/// is abandoned, or if the run is being cancelled.
pub fn requeue(tx: &mut dyn Tx, task_id: &str, reason: &str) -> Result<Task> {
    let task = tasks::get(tx, task_id)?;
    let run_status = runs::get_status_and_grace(tx, task.run_key)?.status;
    run_status.check_allows_requeue(&task.run_id)?;
    let next = task.requeued(tx.now())?;
    if dependencies::has_abandoned_dependency(tx, task.key)? {
        return Err(task.status_error("requeued while a task it depends on is abandoned: requeue that task first"));
    }
    let event = requeue_one(tx, &task, &next, reason)?;
    events::append(tx, task.run_key, &event)?;
    if task.status == TaskStatus::Abandoned {
        unblock_dependents(tx, &next)?;
    }
    Ok(next)
}

/// Requeues all in-progress tasks of a run. Returns the number of requeued tasks. Fails if the run does not exist or is
/// being cancelled.
pub fn requeue_in_progress(tx: &mut dyn Tx, run_id: &str) -> Result<usize> {
    let run = runs::get(tx, run_id)?;
    run.status.check_allows_requeue(&run.id)?;
    let held = tasks::list_with_status(tx, run.key, TaskStatus::InProgress)?;
    if held.is_empty() {
        return Ok(0);
    }
    let mut drafts = Vec::with_capacity(held.len() + 1);
    for task in &held {
        let next = task.with_status(TaskStatus::Pending, tx.now());
        drafts.push(requeue_one(tx, task, &next, "")?);
    }
    drafts.push(system_event::in_progress_tasks_requeued(held.len()));
    events::append_all(tx, run.key, &drafts)?;
    Ok(held.len())
}

/// Saves a requeued task and ends the task's running attempt. Returns the event, which the caller must append.
fn requeue_one(tx: &mut dyn Tx, task: &Task, next: &Task, reason: &str) -> Result<EventDraft> {
    tasks::save(tx, next)?;
    if task.is_held() {
        attempts::end_without_report(tx, task, AttemptStatus::Released)?;
    }
    signal_status_change(tx, task, next)?;
    Ok(system_event::task_requeued(task, reason))
}

/// Requeues the tasks that were blocked only because the task `requeued` was abandoned. The tasks are not ready,
/// because they depend on `requeued`.
fn unblock_dependents(tx: &mut dyn Tx, requeued: &Task) -> Result<()> {
    let selection = Selection::UnblockedDependents(requeued.key);
    let draft = system_event::unleased_task_requeued(UNBLOCKED);
    let events = TaskEvents { draft, with_report: None::<fn(Option<&str>, Option<&str>) -> EventDraft> };
    let unblocked = many_tasks::append_events(tx, requeued.run_key, selection, &events)?;
    let Some(unblocked) = unblocked else { return Ok(()) };
    many_tasks::set_pending(tx, unblocked)?;
    if let Some(time) = due::next_delay_end(tx)? {
        tx.signal(Signal::Due(time));
    }
    Ok(())
}

/// Returns a page of a run's tasks in plan order. The page starts after the task with the ordinal `after`. If
/// `statuses` is empty, the page contains tasks of every status. Fails if the run does not exist.
pub fn list(tx: &mut dyn Tx, run_id: &str, statuses: &[TaskStatus], after: i64, limit: Limit) -> Result<Page<Task>> {
    let run_key = runs::get_key(tx, run_id)?;
    match statuses {
        [] => tasks::list(tx, run_key, after, limit),
        some => tasks::list_with_statuses(tx, run_key, some, after, limit),
    }
}

/// Sends the signals for a task whose status has changed. The signals wake claims that wait for the task's paths or for
/// a ready task.
pub(super) fn signal_status_change(tx: &mut dyn Tx, before: &Task, after: &Task) -> Result<()> {
    if let (true, Some(set)) = (before.is_held(), before.path_set_key) {
        path_sets::record_lease_change(tx, set)?;
        let repo_path = path_sets::get_repo_path(tx, set)?;
        tx.signal(Signal::PathsFreed { repo_path });
    }
    signal_pending_tasks(tx, std::slice::from_ref(after));
    Ok(())
}

/// Sends the signals of a change to tasks of one run. The first signal contains the number of ready tasks, and the
/// second signal contains the earliest time when another task becomes ready.
pub(super) fn signal_pending_tasks(tx: &mut dyn Tx, tasks: &[Task]) {
    let now = tx.now();
    let ready = tasks.iter().filter(|task| task.is_ready(now)).count();
    if let (Some(task), 1..) = (tasks.first(), ready) {
        tx.signal(Signal::Ready { run_key: task.run_key, tasks: ready });
    }
    let pending = tasks.iter().filter(|task| task.status == TaskStatus::Pending);
    if let Some(time) = pending.filter_map(|task| task.delay_end(now)).min() {
        tx.signal(Signal::Due(time));
    }
}
