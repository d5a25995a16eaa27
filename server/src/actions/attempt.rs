//! Attempts that orchestrators report themselves, and lists of attempts.

use crate::domain::attempt::{AttemptReport, TaskAttempt};
use crate::domain::json::Json;
use crate::domain::system_event;
use crate::error::{Error, Resource, Result};
use crate::store::{Limit, Tx, attempts, events, runs, tasks};

/// Fills in the attempt that a claim opened under the reported number, or adds an attempt as reported.
pub fn record(tx: &mut dyn Tx, run_id: &str, task_id: &str, report: &AttemptReport) -> Result<TaskAttempt> {
    let run_key = runs::key(tx, run_id)?;
    let task = tasks::get(tx, task_id)?;
    if task.run_key != run_key {
        return Err(Error::not_found(Resource::Task, task_id));
    }
    let attempt = match attempts::fill_in(tx, task.key, report)? {
        Some(attempt) => attempt,
        None => {
            let attempt = reported(tx, run_id, task_id, report.clone())?;
            attempts::insert(tx, run_key, task.key, &attempt, None)?;
            attempt
        }
    };
    events::append(tx, run_key, &system_event::attempt_recorded(&task, &attempt))?;
    Ok(attempt)
}

fn reported(tx: &mut dyn Tx, run_id: &str, task_id: &str, report: AttemptReport) -> Result<TaskAttempt> {
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

/// The attempts of a run or of one task.
#[derive(Debug, Clone)]
pub enum AttemptsOf {
    /// The run with this id.
    Run(String),
    /// The task with this id.
    Task(String),
}

/// Returns the newest attempts, the newest first.
pub fn newest(tx: &mut dyn Tx, of: &AttemptsOf, limit: Limit) -> Result<Vec<TaskAttempt>> {
    let page = match of {
        AttemptsOf::Run(id) => {
            let run_key = runs::key(tx, id)?;
            attempts::newest_of_run(tx, run_key, limit)?
        }
        AttemptsOf::Task(id) => {
            let task = tasks::get(tx, id)?;
            attempts::newest_of_task(tx, task.key, limit)?
        }
    };
    Ok(page.rows)
}
