//! This module defines macros for statuses and conditions that several SQL statements share.
//!
//! Each macro expands to a literal, because `concat!` accepts only literals and because SQLite uses a partial index
//! only for statements that repeat the condition of the index. If a statement contained a parameter instead of the
//! literal, SQLite could not use the partial index.
//!
//! Do not add an attribute such as `#[rustfmt::skip]` to a macro in this module. The attribute would delay the
//! definition of the macro until after `concat!` needs the macro, and the compiler could not resolve the macro's name.

/// Expands to the numeric code of a `TaskStatus`.
macro_rules! task_status {
    (PENDING) => {
        1
    };
    (IN_PROGRESS) => {
        2
    };
    (COMPLETED) => {
        3
    };
    (BLOCKED) => {
        4
    };
    (ABANDONED) => {
        5
    };
}
pub(super) use task_status;

/// Expands to the numeric code of a `RunStatus`.
macro_rules! run_status {
    (PLANNING) => {
        1
    };
    (RUNNING) => {
        2
    };
    (PAUSED) => {
        3
    };
    (BLOCKED) => {
        4
    };
    (CANCELLING) => {
        5
    };
    (COMPLETED) => {
        6
    };
    (FAILED) => {
        7
    };
    (CANCELLED) => {
        8
    };
}
pub(super) use run_status;

/// Expands to the condition that the server is not deleting the run `r`. Callers see only these runs.
macro_rules! live {
    () => {
        "NOT EXISTS (SELECT 1 FROM deleted_runs d WHERE d.run_key = r.key)"
    };
}
pub(super) use live;

/// Expands to the numeric code of an `ApprovalVerdict`.
macro_rules! verdict {
    (PENDING) => {
        1
    };
    (APPROVED) => {
        2
    };
    (REJECTED) => {
        3
    };
    (CHANGES_REQUESTED) => {
        4
    };
    (EXPIRED) => {
        5
    };
    (CANCELLED) => {
        6
    };
}
pub(super) use verdict;

/// Expands to the condition that a task is ready, which means pending, without open dependencies, and not delayed. The
/// argument is the prefix of the columns, such as `"t."`. The partial indexes `tasks_ready` and
/// `tasks_by_claim_version` have this condition.
macro_rules! ready {
    () => {
        $crate::store::names::ready!("")
    };
    ($prefix:literal) => {
        concat!(
            $prefix,
            "status = ",
            $crate::store::names::task_status!(PENDING),
            " AND ",
            $prefix,
            "open_dependencies = 0 AND ",
            $prefix,
            "is_delayed = 0"
        )
    };
}
pub(super) use ready;

/// Expands to the condition that a task waits for its `not_before_time`. The partial index `tasks_delayed` has this
/// condition.
macro_rules! delayed {
    () => {
        concat!("status = ", $crate::store::names::task_status!(PENDING), " AND is_delayed = 1")
    };
}
pub(super) use delayed;

/// Expands to the condition that the status of the run `r` allows claims. The partial index with this condition
/// is called `runs_giving_out` for historical reasons.
macro_rules! allows_claims {
    () => {
        concat!(
            "r.status IN (",
            $crate::store::names::run_status!(PLANNING),
            ", ",
            $crate::store::names::run_status!(RUNNING),
            ", ",
            $crate::store::names::run_status!(BLOCKED),
            ")"
        )
    };
}
pub(super) use allows_claims;

#[cfg(test)]
mod tests {
    use crate::domain::approval::ApprovalVerdict;
    use crate::domain::run::RunStatus;
    use crate::domain::task::TaskStatus;

    #[test]
    fn literals_equal_codes_of_task_statuses() {
        let literals = [
            (TaskStatus::Pending, task_status!(PENDING)),
            (TaskStatus::InProgress, task_status!(IN_PROGRESS)),
            (TaskStatus::Completed, task_status!(COMPLETED)),
            (TaskStatus::Blocked, task_status!(BLOCKED)),
            (TaskStatus::Abandoned, task_status!(ABANDONED)),
        ];
        let codes: Vec<_> = TaskStatus::ALL.iter().map(|status| (*status, status.code())).collect();
        assert_eq!(codes, literals);
    }

    #[test]
    fn literals_equal_codes_of_run_statuses() {
        let literals = [
            (RunStatus::Planning, run_status!(PLANNING)),
            (RunStatus::Running, run_status!(RUNNING)),
            (RunStatus::Paused, run_status!(PAUSED)),
            (RunStatus::Blocked, run_status!(BLOCKED)),
            (RunStatus::Cancelling, run_status!(CANCELLING)),
            (RunStatus::Completed, run_status!(COMPLETED)),
            (RunStatus::Failed, run_status!(FAILED)),
            (RunStatus::Cancelled, run_status!(CANCELLED)),
        ];
        let codes: Vec<_> = RunStatus::ALL.iter().map(|status| (*status, status.code())).collect();
        assert_eq!(codes, literals);
    }

    #[test]
    fn literals_equal_codes_of_verdicts() {
        let literals = [
            (ApprovalVerdict::Pending, verdict!(PENDING)),
            (ApprovalVerdict::Approved, verdict!(APPROVED)),
            (ApprovalVerdict::Rejected, verdict!(REJECTED)),
            (ApprovalVerdict::ChangesRequested, verdict!(CHANGES_REQUESTED)),
            (ApprovalVerdict::Expired, verdict!(EXPIRED)),
            (ApprovalVerdict::Cancelled, verdict!(CANCELLED)),
        ];
        let codes: Vec<_> = ApprovalVerdict::ALL.iter().map(|verdict| (*verdict, verdict.code())).collect();
        assert_eq!(codes, literals);
    }

    #[test]
    fn condition_lists_all_run_statuses_that_allow_claims() {
        let claimable = RunStatus::ALL.iter().filter(|status| status.allows_claims());
        let codes: Vec<String> = claimable.map(|status| status.code().to_string()).collect();
        assert_eq!(allows_claims!(), format!("r.status IN ({})", codes.join(", ")));
    }
}
