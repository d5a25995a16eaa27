//! What people and checkers have decided.

use super::Key;
use super::json::Json;
use super::time::Timestamp;

coded_enum! {
    /// How an approval stands.
    ApprovalVerdict {
        Pending = 1 "APPROVAL_VERDICT_PENDING",
        Approved = 2 "APPROVAL_VERDICT_APPROVED",
        Rejected = 3 "APPROVAL_VERDICT_REJECTED",
        ChangesRequested = 4 "APPROVAL_VERDICT_CHANGES_REQUESTED",
        Expired = 5 "APPROVAL_VERDICT_EXPIRED",
        Cancelled = 6 "APPROVAL_VERDICT_CANCELLED",
    }
}

/// A decision about a run or one of its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto has them.
pub struct Approval {
    pub key: Key,
    pub id: String,
    pub run_id: String,
    pub task_id: Option<String>,
    pub source: String,
    pub verdict: ApprovalVerdict,
    pub rationale: String,
    pub payload: Json,
    /// None while pending.
    pub decide_time: Option<Timestamp>,
    pub revision: i64,
    pub create_time: Timestamp,
}
