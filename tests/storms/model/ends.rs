//! The model's ways to end work: reports of holders, acts of operators, and their consequences.

use runhub_client::Reason;
use runhub_client::v1::RunStatus::Cancelling;
use runhub_client::v1::{AttemptStatus, TaskStatus};

use super::ops::Caller;
use super::state::{Answer, CallResult, Model};

fn attempt_status_for(status: TaskStatus) -> AttemptStatus {
    match status {
        TaskStatus::Completed => AttemptStatus::Completed,
        TaskStatus::Blocked => AttemptStatus::Blocked,
        _ => AttemptStatus::Abandoned,
    }
}

impl Model {
    /// Ends the attempt that an act ends: the live one, or the late holder's own.
    fn end_attempt(&mut self, at: usize, holder: Option<bool>, to: AttemptStatus) {
        match self.tasks[at].lease {
            Some(lease) if holder == Some(true) => self.attempts[lease.token] = to,
            _ => self.end_live_attempt(at, to),
        }
    }

    /// Returns whether the caller holds the task: Some(true) for a late holder, Some(false) for a live one, None for an
    /// operator. Fails for a stale token.
    pub(super) fn holder(&self, at: usize, token: Option<usize>) -> Result<Option<bool>, Reason> {
        let Some(token) = token else { return Ok(None) };
        let task = &self.tasks[at];
        match task.lease {
            Some(lease) if lease.token == token => Ok(Some(task.status != TaskStatus::InProgress)),
            _ => Err(Reason::StaleLease),
        }
    }

    pub(super) fn end(&mut self, task: usize, caller: Caller, to: TaskStatus, signature: Option<&str>) -> CallResult {
        let Some((at, token)) = self.target(task, caller) else { return Ok(Answer::Done) };
        let holder = self.holder(at, token)?;
        let status = self.tasks[at].status;
        let starts = match status {
            TaskStatus::Pending | TaskStatus::InProgress => true,
            TaskStatus::Blocked => to != TaskStatus::Blocked || holder == Some(true),
            _ => false,
        };
        if !starts {
            return Err(Reason::WrongStatus);
        }
        if to == TaskStatus::Completed {
            if status == TaskStatus::InProgress && holder.is_none() {
                return Err(Reason::LeaseRequired);
            }
            let open = |other: &usize| self.tasks[*other].status != TaskStatus::Completed;
            if self.tasks[at].depends_on.iter().any(open) {
                return Err(Reason::WrongStatus);
            }
        }
        self.end_attempt(at, holder, attempt_status_for(to));
        let task = &mut self.tasks[at];
        task.move_to(to);
        task.signature = signature.map(str::to_owned);
        task.failures -= i32::from(holder == Some(true));
        self.after_move(at);
        Ok(Answer::Done)
    }

    /// Applies the consequences of a task's new status.
    pub(super) fn after_move(&mut self, at: usize) {
        if self.tasks[at].status == TaskStatus::Abandoned {
            for task in self.tasks.iter_mut().filter(|task| task.depends_on.contains(&at)) {
                if task.status == TaskStatus::Pending {
                    task.move_to(TaskStatus::Blocked);
                    task.signature = Some("dependency_abandoned".to_owned());
                }
            }
        }
        self.finish_if_idle(self.tasks[at].run);
    }

    pub(super) fn status_when_returned(&self, at: usize) -> TaskStatus {
        let cancelling = self.runs[self.tasks[at].run].status == Cancelling;
        if cancelling { TaskStatus::Abandoned } else { TaskStatus::Pending }
    }

    pub(super) fn fail(&mut self, token: usize, delay: Option<i64>, signed: bool) -> CallResult {
        let Some(token) = self.token(token) else { return Ok(Answer::Done) };
        let at = self.tokens[token];
        let late = self.holder(at, Some(token))?.unwrap_or(false);
        self.end_attempt(at, Some(late), AttemptStatus::Failed);
        let to = self.status_when_returned(at);
        let now = self.now;
        let task = &mut self.tasks[at];
        task.move_to(to);
        task.signature = signed.then(|| "signed".to_owned());
        task.failures += i32::from(!late);
        task.block_if_exhausted(signed.then_some("signed"));
        if let Some(delay) = delay {
            task.not_before = Some(now + delay * 1_000);
        }
        self.after_move(at);
        Ok(Answer::Done)
    }

    pub(super) fn release(&mut self, token: usize) -> CallResult {
        let Some(token) = self.token(token) else { return Ok(Answer::Done) };
        let at = self.tokens[token];
        if self.holder(at, Some(token))? == Some(true) {
            return Err(Reason::WrongStatus);
        }
        self.end_live_attempt(at, AttemptStatus::Released);
        let to = self.status_when_returned(at);
        self.tasks[at].move_to(to);
        self.after_move(at);
        Ok(Answer::Done)
    }

    pub(super) fn has_abandoned_dependency(&self, at: usize) -> bool {
        self.tasks[at].depends_on.iter().any(|other| self.tasks[*other].status == TaskStatus::Abandoned)
    }

    pub(super) fn requeue(&mut self, task: usize) -> CallResult {
        let Some((at, _)) = self.target(task, Caller::Operator) else { return Ok(Answer::Done) };
        if self.runs[self.tasks[at].run].status == Cancelling {
            return Err(Reason::RunEnded);
        }
        let status = self.tasks[at].status;
        if matches!(status, TaskStatus::Pending | TaskStatus::Completed) || self.has_abandoned_dependency(at) {
            return Err(Reason::WrongStatus);
        }
        self.end_live_attempt(at, AttemptStatus::Released);
        self.tasks[at].move_to(TaskStatus::Pending);
        self.tasks[at].failures = 0;
        self.tasks[at].signature = None;
        for other in 0..self.tasks.len() {
            let was_blocked_by_it = status == TaskStatus::Abandoned
                && self.tasks[other].depends_on.contains(&at)
                && self.tasks[other].status == TaskStatus::Blocked
                && self.tasks[other].signature.as_deref() == Some("dependency_abandoned");
            if was_blocked_by_it && !self.has_abandoned_dependency(other) {
                self.tasks[other].move_to(TaskStatus::Pending);
                self.tasks[other].signature = None;
            }
        }
        Ok(Answer::Done)
    }

    pub(super) fn requeue_all(&mut self, run: usize) -> CallResult {
        if self.runs[run].status == Cancelling {
            return Err(Reason::RunEnded);
        }
        let mut count = 0;
        for at in 0..self.tasks.len() {
            if self.tasks[at].run == run && self.tasks[at].status == TaskStatus::InProgress {
                self.end_live_attempt(at, AttemptStatus::Released);
                self.tasks[at].move_to(TaskStatus::Pending);
                count += 1;
            }
        }
        Ok(Answer::Count(count))
    }
}
