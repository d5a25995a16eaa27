//! This module defines approvals. An approval applies to one subject digest, is decided at most once, and is consumed
//! at most once.

use std::time::Duration;

use super::Key;
use super::event::SYSTEM;
use super::json::Json;
use super::run::check_revision;
use super::time::Timestamp;
use crate::error::{Error, Result};

coded_enum! {
    /// Lists the possible verdicts on an approval.
    ApprovalVerdict {
        Pending = 1 "APPROVAL_VERDICT_PENDING",
        Approved = 2 "APPROVAL_VERDICT_APPROVED",
        Rejected = 3 "APPROVAL_VERDICT_REJECTED",
        ChangesRequested = 4 "APPROVAL_VERDICT_CHANGES_REQUESTED",
        Expired = 5 "APPROVAL_VERDICT_EXPIRED",
        Cancelled = 6 "APPROVAL_VERDICT_CANCELLED",
    }
}

impl ApprovalVerdict {
    /// Returns whether a DecideApproval call can set this verdict.
    pub fn is_decision(self) -> bool {
        matches!(self, Self::Approved | Self::Rejected | Self::ChangesRequested)
    }
}

coded_enum! {
    /// Lists the possible effects of expiry on a pending approval.
    ExpiryPolicy {
        Reject = 1 "EXPIRY_POLICY_REJECT",
        Approve = 2 "EXPIRY_POLICY_APPROVE",
        KeepPending = 3 "EXPIRY_POLICY_KEEP_PENDING",
        PauseRun = 4 "EXPIRY_POLICY_PAUSE_RUN",
    }
}

impl ExpiryPolicy {
    /// Returns the verdict that this policy sets when an approval expires, or None if the approval stays pending.
    fn verdict(self) -> Option<ApprovalVerdict> {
        match self {
            Self::Reject => Some(ApprovalVerdict::Expired),
            Self::Approve => Some(ApprovalVerdict::Approved),
            Self::KeepPending | Self::PauseRun => None,
        }
    }
}

/// Represents a requested or recorded decision about a run or about one task of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct Approval {
    pub key: Key,
    pub id: String,
    pub run_key: Key,
    pub run_id: String,
    pub task_key: Option<Key>,
    pub task_id: Option<String>,
    /// The source of the decision, for example `human` or `system`. While the approval is pending, or if the requester
    /// cancelled the approval, the value is empty.
    pub source: String,
    pub verdict: ApprovalVerdict,
    pub title: String,
    pub rationale: String,
    pub payload: Json,
    pub requested_by: String,
    pub subject_digest: String,
    pub on_expiry: ExpiryPolicy,
    pub expire_time: Option<Timestamp>,
    /// If the server computed `expire_time` from the `ttl` of the request, the value is true. If the clock is set, such a
    /// time moves with the clock, so that the ttl keeps its duration.
    pub has_ttl: bool,
    /// Whether the server has applied the `on_expiry` policy to this approval.
    pub has_expired: bool,
    /// The time at which the approval was decided, expired with a verdict, or was cancelled. While the approval is
    /// pending, the value is None.
    pub decide_time: Option<Timestamp>,
    pub consume_time: Option<Timestamp>,
    pub revision: i64,
    pub create_time: Timestamp,
}

/// Contains the fields of a RequestApproval call.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct ApprovalRequest {
    pub run_id: String,
    pub task_id: Option<String>,
    pub title: String,
    pub payload: Json,
    pub requested_by: String,
    pub subject_digest: String,
    pub on_expiry: ExpiryPolicy,
    pub expire_time: Option<Timestamp>,
    pub ttl: Option<Duration>,
}

/// Contains the fields of an approval that was decided outside Runhub and that a caller records.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct ApprovalDraft {
    pub run_id: String,
    pub task_id: Option<String>,
    pub source: String,
    pub verdict: ApprovalVerdict,
    pub rationale: String,
    pub payload: Json,
}

/// Contains the decision of a DecideApproval call and the conditions under which the decision applies.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct Decision {
    pub source: String,
    pub verdict: ApprovalVerdict,
    pub rationale: String,
    pub expected_revision: Option<i64>,
    pub expected_subject_digest: Option<String>,
}

impl Approval {
    /// Returns a new pending approval whose optional fields are empty. `run` and `task` contain the database key
    /// and the id of the run and of the task. `task` is None if the approval is about the whole run.
    pub fn new(key: Key, id: String, run: (Key, &str), task: Option<(Key, &str)>, now: Timestamp) -> Self {
        Self {
            key,
            id,
            run_key: run.0,
            run_id: run.1.to_owned(),
            task_key: task.map(|(key, _)| key),
            task_id: task.map(|(_, id)| id.to_owned()),
            source: String::new(),
            verdict: ApprovalVerdict::Pending,
            title: String::new(),
            rationale: String::new(),
            payload: Json::null(),
            requested_by: String::new(),
            subject_digest: String::new(),
            on_expiry: ExpiryPolicy::Reject,
            expire_time: None,
            has_ttl: false,
            has_expired: false,
            decide_time: None,
            consume_time: None,
            revision: 1,
            create_time: now,
        }
    }

    /// Returns whether the approval is pending, `expire_time` has passed, and the server has not applied the
    /// `on_expiry` policy yet.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.verdict == ApprovalVerdict::Pending
            && !self.has_expired
            && self.expire_time.is_some_and(|time| time <= now)
    }

    /// Returns the approval after its expiry. If the `on_expiry` policy sets a verdict, the returned approval has that
    /// verdict.
    pub fn expired(&self, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.has_expired = true;
        next.revision += 1;
        if let Some(verdict) = self.on_expiry.verdict() {
            next.set_verdict(verdict, SYSTEM, now);
        }
        next
    }

    fn set_verdict(&mut self, verdict: ApprovalVerdict, source: &str, now: Timestamp) {
        self.verdict = verdict;
        source.clone_into(&mut self.source);
        self.decide_time = Some(now);
    }

    /// Checks that the approval is pending. Fails if the approval was decided or cancelled, or if `expire_time` has
    /// passed and the `on_expiry` policy sets a verdict, even if the sweeper has not applied the policy yet.
    fn check_pending(&self, now: Timestamp) -> Result<()> {
        let current = if self.is_due(now) { self.expired(now) } else { self.clone() };
        if current.verdict == ApprovalVerdict::Pending {
            return Ok(());
        }
        Err(Error::AlreadyDecided {
            approval_id: current.id,
            verdict: current.verdict.name(),
            decided_by: current.source,
        })
    }

    /// Returns the approval with the verdict and the rationale of `decision`. Fails if the approval is not pending, or
    /// if the subject digest or the revision of the approval differs from the value that `decision` expects.
    pub fn decided(&self, decision: &Decision, now: Timestamp) -> Result<Self> {
        self.check_pending(now)?;
        if decision.expected_subject_digest.as_ref().is_some_and(|digest| *digest != self.subject_digest) {
            return Err(self.digest_mismatch());
        }
        check_revision(format_args!("approval {}", self.id), decision.expected_revision, self.revision)?;
        let mut next = Self { rationale: decision.rationale.clone(), revision: self.revision + 1, ..self.clone() };
        next.set_verdict(decision.verdict, &decision.source, now);
        Ok(next)
    }

    /// Returns the cancelled approval. `source` is empty if the requester cancels the approval, and `system` if the
    /// server cancels the approval because the run is cancelled. Fails if the approval is not pending.
    pub fn cancelled(&self, source: &str, now: Timestamp) -> Result<Self> {
        self.check_pending(now)?;
        let mut next = Self { revision: self.revision + 1, ..self.clone() };
        next.set_verdict(ApprovalVerdict::Cancelled, source, now);
        Ok(next)
    }

    /// Returns the consumed approval. Fails if `digest` is empty. Also fails unless the approval is approved, has the
    /// subject digest `digest`, and was not consumed before.
    pub fn consumed(&self, digest: &str, now: Timestamp) -> Result<Self> {
        if self.verdict != ApprovalVerdict::Approved {
            return Err(Error::NotApproved { approval_id: self.id.clone(), verdict: self.verdict.name() });
        }
        if digest.is_empty() || digest != self.subject_digest {
            return Err(self.digest_mismatch());
        }
        if self.consume_time.is_some() {
            return Err(Error::AlreadyConsumed { approval_id: self.id.clone() });
        }
        Ok(Self { consume_time: Some(now), revision: self.revision + 1, ..self.clone() })
    }

    fn digest_mismatch(&self) -> Error {
        Error::DigestMismatch { approval_id: self.id.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Timestamp = Timestamp::from_micros(9);
    const EXPIRY: Timestamp = Timestamp::from_micros(10);

    fn pending_approval(on_expiry: ExpiryPolicy) -> Approval {
        let blank = Approval::new(1, "a".into(), (1, "r"), None, BEFORE);
        Approval { subject_digest: "digest".into(), on_expiry, expire_time: Some(EXPIRY), ..blank }
    }

    fn expected_digest_mismatch() -> Error {
        Error::DigestMismatch { approval_id: "a".into() }
    }

    fn approving_decision() -> Decision {
        Decision {
            source: "human".into(),
            verdict: ApprovalVerdict::Approved,
            rationale: "because".into(),
            expected_revision: None,
            expected_subject_digest: None,
        }
    }

    #[test]
    fn decision_after_expiry_fails_if_the_policy_decides() {
        for policy in ExpiryPolicy::ALL {
            let approval = pending_approval(*policy);
            assert!(approval.decided(&approving_decision(), BEFORE).is_ok());
            let time_decides = matches!(policy, ExpiryPolicy::Reject | ExpiryPolicy::Approve);
            assert_eq!(approval.decided(&approving_decision(), EXPIRY).is_err(), time_decides, "{policy:?}");
            assert_eq!(approval.cancelled("", EXPIRY).is_err(), time_decides, "{policy:?}");
            let expired = approval.expired(EXPIRY);
            assert_eq!(expired.verdict == ApprovalVerdict::Pending, !time_decides, "{policy:?}");
            assert!(!expired.is_due(EXPIRY), "the approval with {policy:?} must expire only once");
        }
    }

    #[test]
    fn error_of_a_second_decision_names_the_first_decision() {
        let decided = pending_approval(ExpiryPolicy::Reject).decided(&approving_decision(), BEFORE).unwrap();
        let refused = decided.cancelled("", BEFORE);
        let won = Error::AlreadyDecided {
            approval_id: "a".into(),
            verdict: ApprovalVerdict::Approved.name(),
            decided_by: "human".into(),
        };
        assert_eq!(refused, Err(won.clone()));
        assert_eq!(decided.decided(&approving_decision(), BEFORE), Err(won));
        assert!(!decided.is_due(EXPIRY));
    }

    #[test]
    fn decision_on_another_digest_or_revision_is_refused() {
        let other = Decision { expected_subject_digest: Some("other".into()), ..approving_decision() };
        assert_eq!(pending_approval(ExpiryPolicy::Reject).decided(&other, BEFORE), Err(expected_digest_mismatch()));
        let stale = Decision { expected_revision: Some(2), ..approving_decision() };
        assert!(matches!(
            pending_approval(ExpiryPolicy::Reject).decided(&stale, BEFORE),
            Err(Error::RevisionMismatch { .. })
        ));
    }

    #[test]
    fn approval_can_be_consumed_only_once_and_only_for_its_digest() {
        let open = pending_approval(ExpiryPolicy::Reject);
        assert!(matches!(open.consumed("digest", BEFORE), Err(Error::NotApproved { .. })));
        let approved = open.decided(&approving_decision(), BEFORE).unwrap();
        assert_eq!(approved.consumed("other", BEFORE), Err(expected_digest_mismatch()));
        // An approval that was approved before `expire_time` can be consumed after `expire_time`.
        let used = approved.consumed("digest", Timestamp::from_micros(99)).unwrap();
        assert_eq!(used.consumed("digest", BEFORE), Err(Error::AlreadyConsumed { approval_id: "a".into() }));
        let without = Approval { subject_digest: String::new(), ..approved };
        assert_eq!(without.consumed("", BEFORE), Err(expected_digest_mismatch()));
    }
}
