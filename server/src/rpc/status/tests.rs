use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::error::StaleToken;

#[test]
fn bad_request_names_the_field() {
    let status = Status::from(Error::field("goal", "the goal must not be blank"));
    let details = status.get_error_details();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "goal");
    assert_eq!(details.error_info().unwrap().domain, DOMAIN);
}

#[test]
fn cause_of_an_internal_error_is_not_in_the_status() {
    let status = Status::from(Error::internal("can't open the file /secret/database: check the file's permissions"));
    assert!(status.message().starts_with("internal error "));
    assert!(!format!("{status:?}").contains("secret"));
}

#[test]
fn reasons_have_the_names_of_the_proto() {
    assert_eq!(reason_name(ErrorReason::StaleLease), "STALE_LEASE");
    let status = Status::from(Error::Draining);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "DRAINING");
}

/// Returns an error of each kind. Every text of the errors is `text`.
fn errors(text: &str) -> Vec<Error> {
    let text = || text.to_owned();
    let current_status = "TASK_STATUS_IN_PROGRESS";
    let verdict = "APPROVAL_VERDICT_CHANGES_REQUESTED";
    let (expected, actual, position) = (i64::MIN, i64::MIN, i64::MIN);
    let stale = |was_deleted, attempt_number| StaleToken {
        task_id: text(),
        attempt_number,
        agent_id: Some(text()),
        current_attempt_number: i32::MIN,
        current_status,
        was_deleted,
    };
    let mut errors = vec![
        Error::InvalidField { field: text(), problem: text() },
        Error::DependencyCycle { cycle: text() },
        Error::RequestIdReused { rpc: "ReplacePendingTasks", request_id: text() },
        Error::LeaseRequired { task_id: text(), agent_id: text() },
        Error::WrongStatus { current_status, problem: text() },
        Error::AlreadyDecided { approval_id: text(), verdict, decided_by: text() },
        Error::NotApproved { approval_id: text(), verdict },
        Error::AlreadyConsumed { approval_id: text() },
        Error::DigestMismatch { approval_id: text() },
        Error::RunEnded { run_id: text(), current_status },
        Error::SnapshotTooLarge { run_id: text(), limit: usize::MAX },
        Error::SnapshotTooSlow { run_id: text() },
        Error::RevisionMismatch { thing: text(), expected, actual },
        Error::PlanVersionMismatch { run_id: text(), expected: i32::MIN, actual: i32::MIN },
        Error::PositionInFuture { cursor: position, newest_position: position },
        Error::PositionCompacted { cursor: position, oldest_position: position, newest_position: position },
        Error::LogChanged { log_id: text(), actual: text() },
        Error::Overloaded,
        Error::Draining,
        Error::StoreBusy,
        Error::StoreFull,
        Error::StoreFailed(text()),
        Error::StoreDamaged(text()),
        Error::RequestIncomplete,
        Error::DeadlineExceeded,
        Error::ResponseDropped,
        Error::Internal(text()),
    ];
    let resources = [Resource::Run, Resource::Task, Resource::Approval, Resource::Checkpoint];
    errors.extend(resources.map(|what| Error::NotFound { what, id: text() }));
    errors.extend(
        [(true, None), (false, None), (false, Some(i32::MIN))]
            .map(|(was_deleted, attempt_number)| Error::StaleLease(stale(was_deleted, attempt_number))),
    );
    errors
}

/// Returns the size of the headers of a status, as HTTP/2 and gRPC define the size.
fn header_bytes(status: Status) -> usize {
    let response = status.into_http::<()>();
    response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// Returns a text of up to `size` characters that repeats a few random characters.
fn texts() -> impl Strategy<Value = String> {
    // The maximum sizes of an id, a name, a path and a text, and of all path patterns of a task.
    let sizes = proptest::sample::select(vec![0, 1, 128, 256, 4 * 1024, 64 * 1024, 256 * 1024]);
    let letters = proptest::collection::vec(any::<char>(), 1..4);
    (letters, sizes).prop_map(|(letters, size)| letters.into_iter().cycle().take(size).collect())
}

#[test]
fn every_reason_is_the_reason_of_a_tested_error() {
    let all: BTreeSet<_> = (1..).map_while(|number| ErrorReason::try_from(number).ok()).map(reason_name).collect();
    let tested = errors("").iter().map(|error| reason_name(code_and_reason(error).1)).collect();
    assert_eq!(all, tested);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Clients refuse headers of more than 8 KiB. The rest is for the headers that the server or a proxy adds.
    #[test]
    fn headers_of_every_error_are_below_8_kib(text in texts()) {
        for error in errors(&text) {
            let status = Status::from(error.clone());
            let details = status.get_error_details();
            prop_assert!(details.error_info().is_some());
            let is_cut = status.message().contains('…');
            let may_be_whole = !error.to_string().contains(&text) || text.len() <= size::TEXT_BYTES;
            let hides_text = matches!(error, Error::Internal(_)) || error.is_store_failure();
            prop_assert!(is_cut || may_be_whole || hides_text, "{status:?}");
            let bytes = header_bytes(status);
            prop_assert!(bytes <= 7 * 1024, "{bytes} bytes: {error:?}");
        }
    }
}
