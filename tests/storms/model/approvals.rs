//! The model's approvals.

use runhub_client::Reason;

use super::ops::Op;
use super::state::{Answer, CallResult};

const PENDING: i32 = 1;
const APPROVED: i32 = 2;
const EXPIRED: i32 = 5;
const CANCELLED: i32 = 6;

const APPROVE: i32 = 2;
const KEEP_PENDING: i32 = 3;
const PAUSE_RUN: i32 = 4;

#[derive(Debug, Clone)]
struct Approval {
    run: usize,
    verdict: i32,
    policy: i32,
    end: Option<i64>,
    has_expired: bool,
    used: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Approvals(Vec<Approval>);

/// Returns the index of one of the newest three of `count` things, or None if there is none.
pub fn newest(number: usize, count: usize) -> Option<usize> {
    number.checked_rem(count.min(3)).map(|back| count - 1 - back)
}

impl Approvals {
    pub fn call(&mut self, op: &Op, now: i64, ended: impl Fn(usize) -> bool) -> CallResult {
        if let Op::Ask { run, policy, seconds } = op {
            if ended(*run) {
                return Err(Reason::RunEnded);
            }
            let end = seconds.map(|seconds| now + seconds * 1_000);
            self.0.push(Approval {
                run: *run,
                verdict: PENDING,
                policy: *policy,
                end,
                has_expired: false,
                used: false,
            });
            return Ok(Answer::Done);
        }
        let (Op::Decide { approval, .. } | Op::CancelApproval { approval } | Op::Consume { approval, .. }) = op else {
            unreachable!("not an approval call")
        };
        let Some(at) = self.at(*approval) else { return Ok(Answer::Done) };
        let approval = &mut self.0[at];
        match op {
            Op::Consume { right, .. } => {
                if approval.verdict != APPROVED {
                    return Err(Reason::NotApproved);
                }
                if !right {
                    return Err(Reason::DigestMismatch);
                }
                if std::mem::replace(&mut approval.used, true) {
                    return Err(Reason::AlreadyConsumed);
                }
            }
            _ if approval.verdict != PENDING => return Err(Reason::AlreadyDecided),
            Op::Decide { verdict, .. } => approval.verdict = *verdict,
            _ => approval.verdict = CANCELLED,
        }
        Ok(Answer::Done)
    }

    /// Picks one of the newest, so that an approval is used more than once.
    pub fn at(&self, approval: usize) -> Option<usize> {
        newest(approval, self.0.len())
    }

    /// Applies the policies to due approvals. Returns the runs to pause.
    pub fn expire(&mut self, now: i64) -> Vec<usize> {
        let mut to_pause = Vec::new();
        let due =
            |one: &&mut Approval| one.verdict == PENDING && !one.has_expired && one.end.is_some_and(|end| end <= now);
        for approval in self.0.iter_mut().filter(due) {
            approval.has_expired = true;
            match approval.policy {
                APPROVE => approval.verdict = APPROVED,
                KEEP_PENDING => {}
                PAUSE_RUN => to_pause.push(approval.run),
                _ => approval.verdict = EXPIRED,
            }
        }
        to_pause
    }

    /// Cancels the approvals of a run. An approval that is already due is decided by its policy instead.
    pub fn cancel_all(&mut self, run: usize, now: i64) {
        for approval in self.0.iter_mut().filter(|approval| approval.run == run && approval.verdict == PENDING) {
            let is_due = !approval.has_expired && approval.end.is_some_and(|end| end <= now);
            approval.verdict = match approval.policy {
                APPROVE if is_due => APPROVED,
                KEEP_PENDING | PAUSE_RUN => CANCELLED,
                _ if is_due => EXPIRED,
                _ => CANCELLED,
            };
        }
    }

    pub fn observe(&self) -> Vec<(i32, bool)> {
        self.0.iter().map(|approval| (approval.verdict, approval.used)).collect()
    }
}
