//! Adding tasks to a plan, and replacing the plan.

use std::collections::HashMap;

use prost::Message;
use runhub_api::v1;

use super::field;
use crate::domain::attempt::AttemptStatus;
use crate::domain::json::Json;
use crate::domain::limits;
use crate::domain::plan::{self, ExistingTask};
use crate::domain::run::Run;
use crate::domain::system_event;
use crate::domain::task::{EndStatus, Ending, Task, TaskDraft, TaskSpec, TaskStatus};
use crate::error::{Error, Result};
use crate::store::{self, Tx, attempts, events, runs, tasks};

/// Parses the drafts of a request.
pub fn parse_drafts(drafts: &[v1::TaskDraft]) -> Result<Vec<TaskDraft>> {
    field::batch("tasks", drafts.len())?;
    drafts.iter().enumerate().map(|(at, draft)| parse_draft(&format!("tasks[{at}]"), draft)).collect()
}

fn parse_draft(at: &str, draft: &v1::TaskDraft) -> Result<TaskDraft> {
    let of = |name: &str| format!("{at}.{name}");
    let key = field::plain_name(&of("key"), &draft.key)?;
    let spec = TaskSpec {
        title: field::required_text(&of("title"), &draft.title)?,
        objective: field::text(&of("objective"), &draft.objective)?,
        acceptance_criteria: field::texts(&of("acceptance_criteria"), &draft.acceptance_criteria)?,
        verification_steps: field::texts(&of("verification_steps"), &draft.verification_steps)?,
        allowed_paths: field::paths(&of("allowed_paths"), &draft.allowed_paths)?,
        required_capabilities: field::names(&of("required_capabilities"), &draft.required_capabilities)?,
        priority: draft.priority,
        labels: field::labels(&of("labels"), &draft.labels)?,
        max_attempts: field::count(&of("max_attempts"), draft.max_attempts)?,
        not_before_time: field::time(&of("not_before_time"), draft.not_before_time.as_ref())?,
    };
    let depends_on = field::references(&of("depends_on"), &draft.depends_on)?;
    // A blank key is no key.
    let key = if key.trim().is_empty() { String::new() } else { key };
    Ok(TaskDraft { key, spec, depends_on })
}

/// Refuses a plan whose answer gRPC clients could not take: ids are longer than the keys they stand for.
pub fn check_answer(response: &impl Message) -> Result<()> {
    let bytes = response.encoded_len();
    if bytes > limits::REQUEST_BYTES {
        let problem = format!("have an answer of {bytes} bytes, over {}: add fewer at a time", limits::REQUEST_BYTES);
        return Err(Error::field("tasks", problem));
    }
    Ok(())
}

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
        log.push(system_event::task_ended(task, &give_up(tx, task)?));
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

/// As the seed did, a replan leaves what was said of the task before.
fn give_up(tx: &mut dyn Tx, task: &Task) -> Result<Ending> {
    let next = task.moved(TaskStatus::Abandoned, tx.now());
    tasks::save(tx, &next)?;
    if task.is_held() {
        attempts::cut_off(tx, task, AttemptStatus::Abandoned)?;
    }
    Ok(Ending {
        to: EndStatus::Abandoned,
        summary: task.implementation_summary.clone(),
        blocker_signature: task.blocker_signature.clone(),
        result: Json::null(),
    })
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
        added.push(Task::new(key, id, run, ordinal, draft.spec.clone(), tx.now()));
    }
    store::plan::insert(tx, &mut added, &dependencies)?;
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
