//! The model's run control, and the effects of time.

use runhub_client::Reason;
use runhub_client::v1::RunStatus::{self, *};
use runhub_client::v1::{AttemptStatus, TaskStatus};

use super::ops::Op;
use super::state::{Answer, CallResult, Model, Run, Task, has_ended};

impl Model {
    pub(super) fn control(&mut self, run: usize, change: impl Fn(&mut Run)) -> CallResult {
        if has_ended(self.runs[run].status) {
            return Err(Reason::RunEnded);
        }
        change(&mut self.runs[run]);
        Ok(Answer::Run(self.runs[run].status))
    }

    pub(super) fn set_status(&mut self, run: usize, status: i32) -> CallResult {
        if self.runs[run].status == Cancelling {
            return Err(Reason::WrongStatus);
        }
        self.runs[run].status = RunStatus::try_from(status).unwrap();
        Ok(Answer::Run(self.runs[run].status))
    }

    pub(super) fn cancel(&mut self, run: usize, grace: i64) -> CallResult {
        let end = self.now + grace;
        match self.runs[run].status {
            Completed | Failed => return Err(Reason::RunEnded),
            Cancelled => return Ok(Answer::Run(Cancelled)),
            Cancelling => self.runs[run].grace_end = self.runs[run].grace_end.min(end),
            _ => {
                self.runs[run].status = Cancelling;
                self.runs[run].grace_end = end;
                self.abandon_all(run, &[TaskStatus::Pending]);
            }
        }
        self.finish_if_idle(run);
        self.finish_if_grace_has_passed(run);
        Ok(Answer::Run(self.runs[run].status))
    }

    pub(super) fn finish_if_idle(&mut self, run: usize) {
        let held = |task: &Task| task.run == run && task.status == TaskStatus::InProgress;
        if self.runs[run].status == Cancelling && !self.tasks.iter().any(held) {
            self.finish(run);
        }
    }

    pub(super) fn finish_if_grace_has_passed(&mut self, run: usize) {
        if self.runs[run].status == Cancelling && self.runs[run].grace_end <= self.now {
            self.finish(run);
        }
    }

    pub(super) fn finish(&mut self, run: usize) {
        self.abandon_all(run, &[TaskStatus::InProgress, TaskStatus::Blocked, TaskStatus::Pending]);
        self.runs[run].status = Cancelled;
        self.approvals.cancel_all(run, self.now);
    }

    /// Advances the clock and applies what is due: first graces, then leases, then approvals.
    pub fn advance_clock(&mut self, millis: i64) {
        self.now += millis;
        for run in 0..2 {
            self.finish_if_grace_has_passed(run);
        }
        let is_over = |task: &Task, now: i64| {
            task.status == TaskStatus::InProgress && task.lease.is_some_and(|lease| lease.end <= now)
        };
        let mut over: Vec<usize> = (0..self.tasks.len()).filter(|at| is_over(&self.tasks[*at], self.now)).collect();
        over.sort_by_key(|at| self.tasks[*at].lease.map(|lease| lease.end));
        for at in over {
            if is_over(&self.tasks[at], self.now) {
                self.expire(at);
            }
        }
        for run in self.approvals.expire(self.now) {
            // Pausing an ended run fails and changes nothing.
            let _ = self.call(&Op::Pause { run });
        }
    }

    pub(super) fn expire(&mut self, at: usize) {
        let to = self.status_when_returned(at);
        let lease = self.tasks[at].lease;
        self.end_live_attempt(at, AttemptStatus::LeaseExpired);
        let task = &mut self.tasks[at];
        task.move_to(to);
        task.failures += 1;
        if to == TaskStatus::Pending {
            task.lease = lease;
            task.block_if_exhausted(None);
        }
        self.after_move(at);
    }

    fn abandon_all(&mut self, run: usize, statuses: &[TaskStatus]) {
        for at in 0..self.tasks.len() {
            if self.tasks[at].run == run && statuses.contains(&self.tasks[at].status) {
                self.abandon(at);
            }
        }
    }
}
