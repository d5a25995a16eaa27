//! Plans: adding tasks to a run's plan, and replacing the plan.

use std::collections::HashMap;

use super::task::{abandon, signal_pending};
use crate::domain::plan::{self, ExistingTask};
use crate::domain::run::Run;
use crate::domain::system_event;
use crate::domain::task::{Task, TaskDraft, TaskStatus};
use crate::error::{Error, Result};
use crate::store::{Tx, events, path_sets, runs, tasks};

/// Appends tasks to a run's plan.
pub fn add(tx: &mut dyn Tx, run_id: &str, drafts: &[TaskDraft]) -> Result<Vec<Task>> {
    let run = runs::get(tx, run_id)?;
    run.check_takes_work()?;
    let added = insert_all(tx, &run, drafts)?;
    if !added.is_empty() {
        events::append(tx, run.key, &system_event::tasks_added(&added, run.plan_version))?;
    }
    Ok(added)
}

/// A new plan for a run.
#[derive(Debug, Clone)]
pub struct ReplacePlan {
    /// The run.
    pub run_id: String,
    /// The tasks of the new plan.
    pub drafts: Vec<TaskDraft>,
    /// The call fails if the run has another `plan_version`. None: any.
    pub expected_plan_version: Option<i32>,
    /// Tasks in progress stay in progress. Otherwise they are abandoned like pending tasks.
    pub keep_in_progress: bool,
}

/// The result of replacing a plan.
#[derive(Debug)]
pub struct ReplacedPlan {
    /// The new tasks.
    pub tasks: Vec<Task>,
    /// The number of abandoned tasks.
    pub abandoned_count: usize,
    /// The run's new `plan_version`.
    pub plan_version: i32,
}

/// Abandons the open tasks of a run and adds new ones.
pub fn replace(tx: &mut dyn Tx, request: &ReplacePlan) -> Result<ReplacedPlan> {
    let run = runs::get(tx, &request.run_id)?;
    run.check_takes_work()?;
    run.check_plan_version(request.expected_plan_version)?;
    let mut abandoned = tasks::with_status(tx, run.key, TaskStatus::Pending)?;
    if !request.keep_in_progress {
        abandoned.extend(tasks::with_status(tx, run.key, TaskStatus::InProgress)?);
    }
    // The tasks are abandoned before the drafts are resolved, because a new task can't depend on an abandoned one.
    let mut drafts = Vec::with_capacity(abandoned.len() + 1);
    for task in &abandoned {
        drafts.push(abandon(tx, task)?);
    }
    let next = run.with_next_plan(tx.now());
    runs::save(tx, &next)?;
    let added = insert_all(tx, &next, &request.drafts)?;
    drafts.insert(0, system_event::plan_replaced(&added, next.plan_version, abandoned.len()));
    events::append_all(tx, run.key, &drafts)?;
    Ok(ReplacedPlan { tasks: added, abandoned_count: abandoned.len(), plan_version: next.plan_version })
}

fn insert_all(tx: &mut dyn Tx, run: &Run, drafts: &[TaskDraft]) -> Result<Vec<Task>> {
    let existing = existing_tasks(tx, run, drafts)?;
    let dependencies = plan::resolve(drafts, &existing)?;
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let count = i32::try_from(drafts.len()).map_err(Error::internal)?;
    let first_ordinal = runs::take_ordinals(tx, run.key, count)? - count + 1;
    let mut added: Vec<Task> = Vec::with_capacity(drafts.len());
    for (ordinal, draft) in (first_ordinal..).zip(drafts) {
        let task = Task::new(tx.next_key()?, tx.new_id(), run, ordinal, draft.spec.clone(), tx.now());
        added.push(Task { path_set_key: path_sets::of_task(tx, run, &draft.spec.allowed_paths)?, ..task });
    }
    tasks::insert_with_dependencies(tx, &mut added, &dependencies)?;
    signal_pending(tx, &added);
    Ok(added)
}

/// Returns the tasks of the run that drafts depend on, by id.
fn existing_tasks(tx: &mut dyn Tx, run: &Run, drafts: &[TaskDraft]) -> Result<HashMap<String, ExistingTask>> {
    let mut existing = HashMap::new();
    for id in plan::dependency_ids(drafts) {
        if let Some(task) = tasks::find_in_run(tx, run.key, id)? {
            existing.insert(id.to_owned(), task);
        }
    }
    Ok(existing)
}
