//! This module records the attempts that orchestrators report, and lists attempts.

use crate::domain::attempt::{AttemptReport, TaskAttempt};
use crate::domain::json::Json;
use crate::domain::system_event;
use crate::error::{Error, Resource, Result};
use crate::store::{Limit, Tx, attempts, events, runs, tasks};

/// Records the report of an attempt and returns the attempt. If a claim opened an attempt with the reported number, the
/// function updates that attempt. Otherwise the function adds a new attempt. Fails if the task belongs to another run.
pub fn record(tx: &mut dyn Tx, run_id: &str, task_id: &str, report: &AttemptReport) -> Result<TaskAttempt> {
    let run_key = runs::get_key(tx, run_id)?;
    let task = tasks::get(tx, task_id)?;
    if task.run_key != run_key {
        return Err(Error::not_found(Resource::Task, task_id));
    }
    let attempt = match attempts::update_claimed(tx, task.key, report)? {
        Some(attempt) => attempt,
        None => {
            let attempt = new_attempt(tx, run_id, task_id, report.clone())?;
            attempts::insert(tx, run_key, task.key, &attempt, None)?;
            attempt
        }
    };
    events::append(tx, run_key, &system_event::attempt_recorded(&task, &attempt))?;
    Ok(attempt)
}

fn new_attempt(tx: &mut dyn Tx, run_id: &str, task_id: &str, report: AttemptReport) -> Result<TaskAttempt> {
    Ok(TaskAttempt {
        key: tx.next_key()?,
        id: tx.new_id(),
        run_id: run_id.to_owned(),
        task_id: task_id.to_owned(),
        attempt_number: report.attempt_number,
        agent_id: None,
        status: report.status,
        end_time: report.end_time(tx.now()),
        summary: report.summary,
        blocker_signature: report.blocker_signature,
        result: report.result,
        progress: Json::null(),
        create_time: tx.now(),
    })
}

/// The run or the task whose attempts are listed.
#[derive(Debug, Clone)]
pub enum AttemptScope {
    /// Selects the attempts of the run with this id.
    Run(String),
    /// Selects the attempts of the task with this id.
    Task(String),
}

/// Returns the newest attempts of a run or a task, ordered from newest to oldest. Fails if the run or the task does not
/// exist.
pub fn list_newest(tx: &mut dyn Tx, of: &AttemptScope, limit: Limit) -> Result<Vec<TaskAttempt>> {
    let page = match of {
        AttemptScope::Run(id) => {
            let run_key = runs::get_key(tx, id)?;
            attempts::list_newest_of_run(tx, run_key, limit)?
        }
        AttemptScope::Task(id) => {
            let task = tasks::get(tx, id)?;
            attempts::list_newest_of_task(tx, task.key, limit)?
        }
    };
    Ok(page.rows)
}
