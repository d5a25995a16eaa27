//! This module converts errors to gRPC statuses. No other module uses gRPC codes or error reasons.

mod size;

use std::collections::HashMap;
use std::time::Duration;

use runhub_api::v1::ErrorReason;
use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use self::size::shorten;
use crate::error::{Error, Resource};

/// The `domain` of every ErrorInfo.
const DOMAIN: &str = "runhub";

/// The delay in RetryInfo. The caller should retry the call after this delay.
const RETRY_DELAY: Duration = Duration::from_millis(200);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        to_status(&error, RETRY_DELAY)
    }
}

/// Returns the status of a call that is refused because the server is overloaded. The caller should retry the call
/// after `retry_delay`.
pub fn new_overloaded_status(retry_delay: Duration) -> Status {
    to_status(&Error::Overloaded, retry_delay)
}

/// Returns the trailers that end a stream with a status.
pub fn to_trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Adding the headers fails only if a header of the status is malformed. The client then gets no status, and treats
    // the stream as broken.
    let _ = status.add_header(&mut trailers);
    trailers
}

/// Shortens the text of a status without details, which comes from tonic and may quote a long text of the caller.
pub fn shorten_message(headers: &mut HeaderMap) {
    let has_long_message = headers.get(Status::GRPC_MESSAGE).is_some_and(|message| message.len() > size::TEXT_BYTES);
    if has_long_message && let Some(status) = Status::from_header_map(headers) {
        // The shortened text can't be malformed, because the header has only ASCII characters.
        let _ = Status::new(status.code(), shorten(status.message())).add_header(headers);
    }
}

fn to_status(error: &Error, retry_delay: Duration) -> Status {
    match error {
        Error::Internal(cause) => return log_internal_error(cause),
        // The server logs the cause once, when it ends.
        Error::StoreFailed(_) | Error::StoreDamaged(_) => return to_status(&Error::Draining, retry_delay),
        _ => {}
    }
    let (code, reason) = code_and_reason(error);
    let text = shorten(&error.to_string());
    let mut details = ErrorDetails::with_error_info(reason_name(reason), DOMAIN, metadata(error));
    match error {
        Error::InvalidField { field, problem } => {
            details.add_bad_request_violation(shorten(field), shorten(problem));
        }
        Error::NotFound { what, id } => {
            details.set_resource_info(resource_type(*what), shorten(id), "", &text);
        }
        Error::Overloaded | Error::Draining | Error::StoreBusy | Error::StoreFull | Error::ResponseDropped => {
            details.set_retry_info(Some(retry_delay));
        }
        _ => {}
    }
    Status::with_error_details(code, text, details)
}

/// Returns the name of an error reason without the prefix `ERROR_REASON_`.
fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

fn code_and_reason(error: &Error) -> (Code, ErrorReason) {
    match error {
        Error::InvalidField { .. } => (Code::InvalidArgument, ErrorReason::InvalidField),
        Error::DependencyCycle { .. } => (Code::InvalidArgument, ErrorReason::DependencyCycle),
        Error::RequestIdReused { .. } => (Code::InvalidArgument, ErrorReason::RequestIdReused),
        Error::NotFound { what: Resource::Run, .. } => (Code::NotFound, ErrorReason::RunNotFound),
        Error::NotFound { what: Resource::Task, .. } => (Code::NotFound, ErrorReason::TaskNotFound),
        Error::NotFound { what: Resource::Approval, .. } => (Code::NotFound, ErrorReason::ApprovalNotFound),
        Error::NotFound { what: Resource::Checkpoint, .. } => (Code::NotFound, ErrorReason::CheckpointNotFound),
        Error::StaleLease(_) => (Code::FailedPrecondition, ErrorReason::StaleLease),
        Error::LeaseRequired { .. } => (Code::FailedPrecondition, ErrorReason::LeaseRequired),
        Error::WrongStatus { .. } => (Code::FailedPrecondition, ErrorReason::WrongStatus),
        Error::RunEnded { .. } => (Code::FailedPrecondition, ErrorReason::RunEnded),
        Error::AlreadyDecided { .. } => (Code::FailedPrecondition, ErrorReason::AlreadyDecided),
        Error::NotApproved { .. } => (Code::FailedPrecondition, ErrorReason::NotApproved),
        Error::AlreadyConsumed { .. } => (Code::FailedPrecondition, ErrorReason::AlreadyConsumed),
        Error::DigestMismatch { .. } => (Code::FailedPrecondition, ErrorReason::DigestMismatch),
        Error::SnapshotTooLarge { .. } | Error::SnapshotTooSlow { .. } => {
            (Code::FailedPrecondition, ErrorReason::SnapshotTooLarge)
        }
        Error::RevisionMismatch { .. } => (Code::Aborted, ErrorReason::RevisionMismatch),
        Error::PlanVersionMismatch { .. } => (Code::Aborted, ErrorReason::PlanVersionMismatch),
        Error::PositionInFuture { .. } => (Code::OutOfRange, ErrorReason::PositionInFuture),
        Error::PositionCompacted { .. } => (Code::OutOfRange, ErrorReason::PositionCompacted),
        Error::LogChanged { .. } => (Code::FailedPrecondition, ErrorReason::LogChanged),
        Error::Overloaded => (Code::ResourceExhausted, ErrorReason::Overloaded),
        Error::Draining | Error::StoreFailed(_) | Error::StoreDamaged(_) => (Code::Unavailable, ErrorReason::Draining),
        Error::StoreBusy => (Code::Unavailable, ErrorReason::StoreBusy),
        Error::StoreFull => (Code::Unavailable, ErrorReason::StoreFull),
        Error::RequestIncomplete => (Code::DeadlineExceeded, ErrorReason::RequestIncomplete),
        Error::DeadlineExceeded => (Code::DeadlineExceeded, ErrorReason::DeadlineExceeded),
        Error::ResponseDropped => (Code::Unavailable, ErrorReason::ResponseDropped),
        Error::Internal(_) => (Code::Internal, ErrorReason::Internal),
    }
}

fn metadata(error: &Error) -> HashMap<String, String> {
    let pairs: Vec<(&str, String)> = match error {
        Error::StaleLease(stale) => vec![
            ("attempt_number", stale.attempt_number.map(|number| number.to_string()).unwrap_or_default()),
            ("current_attempt_number", stale.current_attempt_number.to_string()),
            ("current_status", stale.current_status.to_owned()),
        ],
        Error::WrongStatus { current_status, .. } | Error::RunEnded { current_status, .. } => {
            vec![("current_status", (*current_status).to_owned())]
        }
        Error::AlreadyDecided { verdict, decided_by, .. } => {
            vec![("verdict", (*verdict).to_owned()), ("source", decided_by.clone())]
        }
        Error::NotApproved { verdict, .. } => vec![("verdict", (*verdict).to_owned())],
        Error::RevisionMismatch { expected, actual, .. } => {
            vec![("expected", expected.to_string()), ("actual", actual.to_string())]
        }
        Error::PlanVersionMismatch { expected, actual, .. } => {
            vec![("expected", expected.to_string()), ("actual", actual.to_string())]
        }
        Error::PositionInFuture { newest_position, .. } => vec![("newest_position", newest_position.to_string())],
        Error::PositionCompacted { oldest_position, newest_position, .. } => {
            vec![("oldest_position", oldest_position.to_string()), ("newest_position", newest_position.to_string())]
        }
        Error::LogChanged { actual, .. } => vec![("log_id", actual.clone())],
        _ => vec![],
    };
    pairs.into_iter().map(|(key, value)| (key.to_owned(), shorten(&value))).collect()
}

fn resource_type(what: Resource) -> &'static str {
    match what {
        Resource::Run => "runhub.v1.Run",
        Resource::Task => "runhub.v1.Task",
        Resource::Approval => "runhub.v1.Approval",
        Resource::Checkpoint => "runhub.v1.Checkpoint",
    }
}

/// Logs the cause of an internal error with a new id. Returns a status that contains only the id, because callers must
/// not see the cause.
#[allow(clippy::disallowed_methods)] // No order and no test depends on the id of a log line.
fn log_internal_error(cause: &str) -> Status {
    let id = Uuid::new_v4();
    tracing::error!(%id, cause, "internal error");
    let details = ErrorDetails::with_error_info(reason_name(ErrorReason::Internal), DOMAIN, HashMap::new());
    Status::with_error_details(Code::Internal, format!("internal error {id}"), details)
}

#[cfg(test)]
mod tests;
