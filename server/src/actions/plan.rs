//! Adding tasks to a plan, and replacing the plan.

use std::collections::HashMap;

use super::{give_up, signal_pending};
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

/// A plan that was replaced.
pub struct Replaced {
    /// The new tasks.
    pub tasks: Vec<Task>,
    /// How many were given up for them.
    pub abandoned_count: usize,
    /// The run's, after it.
    pub plan_version: i32,
}

/// Gives up what is pending, and what is in progress unless it is kept, and puts new tasks in its place.
pub fn replace(
    tx: &mut dyn Tx,
    run_id: &str,
    drafts: &[TaskDraft],
    expected_plan_version: Option<i32>,
    keep_in_progress: bool,
) -> Result<Replaced> {
    let run = runs::get(tx, run_id)?;
    run.check_takes_work()?;
    if let Some(expected) = expected_plan_version.filter(|expected| *expected != run.plan_version) {
        return Err(Error::PlanVersionMismatch { expected, actual: run.plan_version });
    }
    let mut given_up = tasks::with_status(tx, run.key, TaskStatus::Pending)?;
    if !keep_in_progress {
        given_up.extend(tasks::with_status(tx, run.key, TaskStatus::InProgress)?);
    }
    // First given up, then looked at: a new task can't depend on what this call abandons.
    let mut log = Vec::with_capacity(given_up.len() + 1);
    for task in &given_up {
        log.push(give_up(tx, task)?);
    }
    let mut next = run.clone();
    next.plan_version += 1;
    next.touch(tx.now());
    runs::save(tx, &next)?;
    let added = insert_all(tx, &next, drafts)?;
    log.insert(0, system_event::plan_replaced(&added, next.plan_version, given_up.len()));
    events::append_all(tx, run.key, &log)?;
    Ok(Replaced { tasks: added, abandoned_count: given_up.len(), plan_version: next.plan_version })
}

fn insert_all(tx: &mut dyn Tx, run: &Run, drafts: &[TaskDraft]) -> Result<Vec<Task>> {
    let dependencies = plan::resolve(drafts, &look_up(tx, run, drafts)?)?;
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let count = i32::try_from(drafts.len()).map_err(Error::internal)?;
    let first_ordinal = runs::take_ordinals(tx, run.key, count)? - count + 1;
    let mut added: Vec<Task> = Vec::with_capacity(drafts.len());
    for (ordinal, draft) in (first_ordinal..).zip(drafts) {
        let (key, id) = (tx.next_key()?, tx.new_id());
        let task = Task::new(key, id, run, ordinal, draft.spec.clone(), tx.now());
        added.push(Task { path_set_key: path_sets::of_task(tx, run, &draft.spec.allowed_paths)?, ..task });
    }
    tasks::insert_with_dependencies(tx, &mut added, &dependencies)?;
    signal_pending(tx, &added);
    Ok(added)
}

fn look_up(tx: &mut dyn Tx, run: &Run, drafts: &[TaskDraft]) -> Result<HashMap<String, ExistingTask>> {
    let mut existing = HashMap::new();
    for id in plan::ids_to_look_up(drafts) {
        if let Some(task) = tasks::find_in_run(tx, run.key, id)? {
            existing.insert(id.to_owned(), task);
        }
    }
    Ok(existing)
}
