//! This module adds tasks to a run's plan, and replaces the plan.

use std::collections::HashMap;

use super::task::{abandon_leased, abandon_unleased, signal_pending_tasks};
use crate::domain::plan::{self, ExistingTask};
use crate::domain::run::Run;
use crate::domain::system_event;
use crate::domain::task::{Task, TaskDraft};
use crate::error::{Error, Result};
use crate::store::many_tasks::Selection;
use crate::store::{Tx, capability_sets, events, path_sets, runs, tasks};

/// Appends tasks to a run's plan and returns the new tasks. Fails if the run has ended or is being cancelled, or if the
/// dependencies of the drafts are invalid.
pub fn add(tx: &mut dyn Tx, run_id: &str, drafts: &[TaskDraft]) -> Result<Vec<Task>> {
    let run = runs::get(tx, run_id)?;
    run.check_active()?;
    let added = insert_all(tx, &run, drafts)?;
    if !added.is_empty() {
        events::append(tx, run.key, &system_event::tasks_added(&added, run.plan_version))?;
    }
    Ok(added)
}

/// A request to replace the plan of a run.
#[derive(Debug, Clone)]
pub struct ReplacePlan {
    /// The id of the run.
    pub run_id: String,
    /// The drafts of the tasks in the new plan.
    pub drafts: Vec<TaskDraft>,
    /// The `plan_version` that the run must have. If the run has a different `plan_version`, the call fails. None
    /// accepts every `plan_version`.
    pub expected_plan_version: Option<i32>,
    /// Whether tasks in progress remain in progress. If false, tasks in progress are abandoned like pending tasks.
    pub keep_in_progress: bool,
}

/// The result of replacing a plan.
#[derive(Debug)]
pub struct ReplacedPlan {
    /// The tasks that were added.
    pub tasks: Vec<Task>,
    /// The number of tasks that were abandoned.
    pub abandoned_count: usize,
    /// The run's `plan_version` after the replacement.
    pub plan_version: i32,
}

/// Abandons the pending tasks of a run and adds the tasks of the new plan. Unless `keep_in_progress` is set, also
/// abandons the tasks in progress. Returns the new tasks and the new `plan_version`. Fails if the run has ended or is
/// being cancelled, if the run's `plan_version` differs from the expected version, or if the dependencies of the drafts
/// are invalid.
pub fn replace(tx: &mut dyn Tx, request: &ReplacePlan) -> Result<ReplacedPlan> {
    let run = runs::get(tx, &request.run_id)?;
    run.check_active()?;
    run.check_plan_version(request.expected_plan_version)?;
    // The event `plan_replaced` contains the added tasks, but comes before the events of the abandoned tasks, so
    // reserve the event's seq and position first. Abandon the old tasks before the drafts are resolved, because a new
    // task must not depend on an abandoned task.
    let replaced = events::reserve(tx, run.key, 1)?;
    let mut abandoned_count = abandon_unleased(tx, run.key, Selection::PendingOfRun(run.key))?;
    if !request.keep_in_progress {
        abandoned_count += abandon_leased(tx, run.key)?;
    }
    let next = run.with_next_plan(tx.now());
    runs::save(tx, &next)?;
    let added = insert_all(tx, &next, &request.drafts)?;
    let event = system_event::plan_replaced(&added, next.plan_version, abandoned_count);
    events::insert_reserved(tx, run.key, replaced, &event)?;
    Ok(ReplacedPlan { tasks: added, abandoned_count, plan_version: next.plan_version })
}

fn insert_all(tx: &mut dyn Tx, run: &Run, drafts: &[TaskDraft]) -> Result<Vec<Task>> {
    let existing = find_existing_tasks(tx, run, drafts)?;
    let dependencies = plan::resolve(drafts, &existing)?;
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let count = i32::try_from(drafts.len()).map_err(Error::internal)?;
    let first_ordinal = runs::assign_ordinals(tx, run.key, count)? - count + 1;
    let mut added: Vec<Task> = Vec::with_capacity(drafts.len());
    for (ordinal, draft) in (first_ordinal..).zip(drafts) {
        let task = Task::new(tx.next_key()?, tx.new_id(), run, ordinal, draft.spec.clone(), tx.now());
        added.push(Task {
            path_set_key: path_sets::find_or_insert(tx, run, &draft.spec.allowed_paths)?,
            capability_set_key: capability_sets::find_or_insert(tx, &draft.spec.required_capabilities)?,
            ..task
        });
    }
    tasks::insert_with_dependencies(tx, &mut added, &dependencies)?;
    signal_pending_tasks(tx, &added);
    Ok(added)
}

/// Returns the existing tasks of the run on which the drafts depend, as a map whose keys are the task ids.
fn find_existing_tasks(tx: &mut dyn Tx, run: &Run, drafts: &[TaskDraft]) -> Result<HashMap<String, ExistingTask>> {
    let mut existing = HashMap::new();
    for id in plan::dependency_ids(drafts) {
        if let Some(task) = tasks::find_in_run(tx, run.key, id)? {
            existing.insert(id.to_owned(), task);
        }
    }
    Ok(existing)
}
