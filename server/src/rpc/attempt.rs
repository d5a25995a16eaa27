//! Attempts: what an orchestrator reports of its own, and what is listed.

use runhub_api::v1;

use super::field;
use crate::domain::attempt::{AttemptReport, AttemptStatus, TaskAttempt};
use crate::domain::json::Json;
use crate::domain::system_event;
use crate::error::{Error, Resource, Result};
use crate::store::{Limit, Tx, attempts, events, runs, tasks};

/// Parses what is reported.
pub fn parse_report(request: &v1::RecordTaskAttemptRequest) -> Result<AttemptReport> {
    Ok(AttemptReport {
        attempt_number: field::count("attempt_number", request.attempt_number)?,
        status: field::code("status", request.status, AttemptStatus::from_code)?,
        summary: field::text("summary", &request.summary)?,
        blocker_signature: field::optional_text("blocker_signature", request.blocker_signature.as_deref())?,
        result: field::json("result", request.result.as_ref())?,
    })
}

/// Fills in the attempt a claim opened under this number, or adds one as given.
pub fn record(tx: &mut dyn Tx, run_id: &str, task_id: &str, report: &AttemptReport) -> Result<TaskAttempt> {
    let run_key = runs::key(tx, run_id)?;
    let task = tasks::get(tx, task_id)?;
    if task.run_key != run_key {
        return Err(Error::not_found(Resource::Task, task_id));
    }
    let filled_in = attempts::fill_in(tx, task.key, report)?;
    let attempt = match filled_in {
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

/// Whose attempts to list.
pub enum Whose {
    /// Of a run, by its id.
    Run(String),
    /// Of a task, by its id.
    Task(String),
}

impl Whose {
    /// Parses the two ids, of which one must be given.
    pub fn parse(run_id: &str, task_id: &str) -> Result<Self> {
        match (run_id.is_empty(), task_id.is_empty()) {
            (false, true) => Ok(Self::Run(field::id("run_id", run_id)?)),
            (true, false) => Ok(Self::Task(field::id("task_id", task_id)?)),
            _ => Err(Error::field("run_id", "exactly one of run_id and task_id is required")),
        }
    }
}

/// The newest attempts, the newest first.
pub fn newest(tx: &mut dyn Tx, whose: &Whose, limit: Limit) -> Result<Vec<TaskAttempt>> {
    let page = match whose {
        Whose::Run(id) => {
            let run_key = runs::key(tx, id)?;
            attempts::newest_of_run(tx, run_key, limit)?
        }
        Whose::Task(id) => {
            let task = tasks::get(tx, id)?;
            attempts::newest_of_task(tx, task.key, limit)?
        }
    };
    Ok(page.rows)
}
