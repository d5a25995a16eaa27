//! The one place where errors become a gRPC status.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::error::{Error, Resource};

/// Of every ErrorInfo.
const DOMAIN: &str = "runhub";

/// When to call again while the server is too busy.
const RETRY_DELAY: Duration = Duration::from_millis(200);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status(&error, RETRY_DELAY)
    }
}

/// What is too much, for one who is to come back after so long.
pub fn overloaded(retry_delay: Duration) -> Status {
    status(&Error::Overloaded, retry_delay)
}

fn status(error: &Error, retry_delay: Duration) -> Status {
    if let Error::Internal(cause) = error {
        return internal(cause);
    }
    let (code, reason) = code_and_reason(error);
    let text = shortened(&error.to_string());
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata(error));
    match error {
        Error::InvalidField { field, problem } => {
            details.add_bad_request_violation(shortened(field), shortened(problem));
        }
        Error::NotFound { what, id } => {
            details.set_resource_info(resource_type(*what), id, "", &text);
        }
        Error::Overloaded | Error::Draining | Error::StoreBusy => {
            details.set_retry_info(Some(retry_delay));
        }
        _ => {}
    }
    Status::with_error_details(code, text, details)
}

/// A status travels in headers, of which clients take some kilobytes: what callers said is quoted only in part.
fn shortened(text: &str) -> String {
    const CHARS: usize = 500;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn code_and_reason(error: &Error) -> (Code, &'static str) {
    match error {
        Error::InvalidField { .. } => (Code::InvalidArgument, "INVALID_FIELD"),
        Error::DependencyCycle { .. } => (Code::InvalidArgument, "DEPENDENCY_CYCLE"),
        Error::RequestIdReused => (Code::InvalidArgument, "REQUEST_ID_REUSED"),
        Error::NotFound { what: Resource::Run, .. } => (Code::NotFound, "RUN_NOT_FOUND"),
        Error::NotFound { what: Resource::Task, .. } => (Code::NotFound, "TASK_NOT_FOUND"),
        Error::NotFound { what: Resource::Approval, .. } => (Code::NotFound, "APPROVAL_NOT_FOUND"),
        Error::NotFound { what: Resource::Checkpoint, .. } => (Code::NotFound, "CHECKPOINT_NOT_FOUND"),
        Error::StaleLease(_) => (Code::FailedPrecondition, "STALE_LEASE"),
        Error::LeaseRequired => (Code::FailedPrecondition, "LEASE_REQUIRED"),
        Error::WrongStatus { .. } => (Code::FailedPrecondition, "WRONG_STATUS"),
        Error::RunEnded { .. } => (Code::FailedPrecondition, "RUN_ENDED"),
        Error::AlreadyDecided { .. } => (Code::FailedPrecondition, "ALREADY_DECIDED"),
        Error::NotApproved { .. } => (Code::FailedPrecondition, "NOT_APPROVED"),
        Error::AlreadyConsumed => (Code::FailedPrecondition, "ALREADY_CONSUMED"),
        Error::DigestMismatch => (Code::FailedPrecondition, "DIGEST_MISMATCH"),
        Error::SnapshotTooLarge { .. } => (Code::FailedPrecondition, "SNAPSHOT_TOO_LARGE"),
        Error::RevisionMismatch { .. } => (Code::Aborted, "REVISION_MISMATCH"),
        Error::PlanVersionMismatch { .. } => (Code::Aborted, "PLAN_VERSION_MISMATCH"),
        Error::PositionInFuture { .. } => (Code::OutOfRange, "POSITION_IN_FUTURE"),
        Error::PositionCompacted { .. } => (Code::OutOfRange, "POSITION_COMPACTED"),
        Error::Overloaded => (Code::ResourceExhausted, "OVERLOADED"),
        Error::Draining => (Code::Unavailable, "DRAINING"),
        Error::StoreBusy => (Code::Unavailable, "STORE_BUSY"),
        Error::Internal(_) => (Code::Internal, "INTERNAL"),
    }
}

fn metadata(error: &Error) -> HashMap<String, String> {
    let pairs: Vec<(&str, String)> = match error {
        Error::StaleLease(stale) => vec![
            ("attempt_number", stale.attempt_number.map(|number| number.to_string()).unwrap_or_default()),
            ("current_attempt_number", stale.current_attempt_number.to_string()),
            ("current_status", stale.current_status.to_owned()),
        ],
        Error::WrongStatus { current_status, .. } | Error::RunEnded { current_status } => {
            vec![("current_status", (*current_status).to_owned())]
        }
        Error::AlreadyDecided { verdict, decided_by } => {
            vec![("verdict", (*verdict).to_owned()), ("source", decided_by.clone())]
        }
        Error::NotApproved { verdict } => vec![("verdict", (*verdict).to_owned())],
        Error::RevisionMismatch { expected, actual } => {
            vec![("expected", expected.to_string()), ("actual", actual.to_string())]
        }
        Error::PlanVersionMismatch { expected, actual } => {
            vec![("expected", expected.to_string()), ("actual", actual.to_string())]
        }
        Error::PositionInFuture { newest_position } => vec![("newest_position", newest_position.to_string())],
        Error::PositionCompacted { oldest_position, newest_position } => {
            vec![("oldest_position", oldest_position.to_string()), ("newest_position", newest_position.to_string())]
        }
        _ => vec![],
    };
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn resource_type(what: Resource) -> &'static str {
    match what {
        Resource::Run => "runhub.v1.Run",
        Resource::Task => "runhub.v1.Task",
        Resource::Approval => "runhub.v1.Approval",
        Resource::Checkpoint => "runhub.v1.Checkpoint",
    }
}

/// The caller gets an id, the log the cause behind it.
#[allow(clippy::disallowed_methods)] // An id for a log line: nothing is ordered or tested by it.
fn internal(cause: &str) -> Status {
    let id = Uuid::new_v4();
    tracing::error!(%id, cause, "internal error");
    let details = ErrorDetails::with_error_info("INTERNAL", DOMAIN, HashMap::new());
    Status::with_error_details(Code::Internal, format!("internal error {id}"), details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_in_the_bad_request() {
        let status = Status::from(Error::field("goal", "is blank"));
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "goal");
        assert_eq!(details.error_info().unwrap().domain, DOMAIN);
    }

    #[test]
    fn what_callers_said_is_quoted_only_in_part() {
        let long = Status::from(Error::field("update_mask", "é".repeat(1_000_000)));
        assert!(long.message().len() < 2_000 && long.details().len() < 4_000);
        let cycle = Error::DependencyCycle { cycle: "key -> ".repeat(10_000) };
        assert!(Status::from(cycle).message().contains("key -> key"));
    }

    #[test]
    fn the_cause_of_an_internal_error_stays_here() {
        let status = Status::from(Error::internal("the secret path"));
        assert!(status.message().starts_with("internal error "));
        assert!(!format!("{status:?}").contains("secret"));
    }
}
