//! This module parses the requests of TaskService that are about attempts.

use runhub_api::v1;

use super::{field, page};
use crate::actions::attempt::AttemptScope;
use crate::domain::attempt::{AttemptReport, AttemptStatus};
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::Limit;

/// Parses the report of an attempt. Fails if a field is invalid.
pub fn parse_report(request: &v1::RecordTaskAttemptRequest) -> Result<AttemptReport> {
    Ok(AttemptReport {
        attempt_number: field::count("attempt_number", request.attempt_number)?,
        status: field::code("status", request.status, AttemptStatus::from_code)?,
        summary: field::text("summary", &request.summary)?,
        blocker_signature: field::optional_text("blocker_signature", request.blocker_signature.as_deref())?,
        result: field::json("result", request.result.as_ref())?,
    })
}

/// Parses the request for a list of attempts. Fails unless exactly one of `run_id` and `task_id` is set.
pub fn parse_list(request: &v1::ListTaskAttemptsRequest) -> Result<(AttemptScope, Limit)> {
    let of = match (request.run_id.is_empty(), request.task_id.is_empty()) {
        (false, true) => AttemptScope::Run(field::id("run_id", &request.run_id)?),
        (true, false) => AttemptScope::Task(field::id("task_id", &request.task_id)?),
        _ => return Err(Error::field("run_id", "the request must set either run_id or task_id, but not both")),
    };
    Ok((of, page::parse_newest_limit("limit", request.limit, limits::DEFAULT_ATTEMPTS)?))
}
