//! The model: two runs of one repository, as the design describes them. Times are milliseconds from the start.

use runhub_client::Reason;
use runhub_client::v1::RunStatus::{self, *};
use runhub_client::v1::{AttemptStatus, TaskStatus};

use super::approvals::Approvals;
use super::ops::{Caller, NewTask, Op};

#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub run: usize,
    pub depends_on: Vec<usize>,
    pub path: Option<u8>,
    pub(super) priority: i32,
    pub(super) max_attempts: i32,
    pub(super) needs_ability: bool,
    pub not_before: Option<i64>,
    pub status: TaskStatus,
    pub attempts: i32,
    pub failures: i32,
    pub signature: Option<String>,
    pub lease: Option<Lease>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lease {
    /// Index of the token, in the order of issue.
    pub token: usize,
    pub(super) duration: i64,
    pub end: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub status: RunStatus,
    pub(super) before_pause: RunStatus,
    pub(super) grace_end: i64,
    pub(super) last_served: usize,
}

/// The compared fields of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    pub status: TaskStatus,
    pub attempts: i32,
    pub failures: i32,
    pub signature: Option<String>,
    pub lease_end: Option<i64>,
    pub not_before: Option<i64>,
}

/// The compared state of everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub tasks: Vec<TaskView>,
    /// The answer of ExplainTask for each task.
    pub claimable: Vec<bool>,
    /// AttemptStatus of each claim, in the order of the claims.
    pub attempts: Vec<i32>,
    pub statuses: [RunStatus; 2],
    pub approvals: Vec<(i32, bool)>,
}

/// The compared part of an answer that is not a refusal.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The call succeeded. Its effect shows in the state.
    Done,
    /// Index and attempt number of the claimed task, or None if no task was claimable.
    Claimed(Option<(usize, i32)>),
    /// LeaseState, and when the lease expires.
    Beaten(i32, Option<i64>),
    Count(i32),
    Run(RunStatus),
}

pub type CallResult = Result<Answer, Reason>;

#[derive(Debug, Clone)]
pub struct Model {
    pub now: i64,
    pub runs: [Run; 2],
    pub tasks: Vec<Task>,
    /// Task of each token.
    pub tokens: Vec<usize>,
    /// Attempt status of each token.
    pub attempts: Vec<AttemptStatus>,
    pub approvals: Approvals,
}

impl Default for Model {
    fn default() -> Self {
        let run = Run { status: Planning, before_pause: Planning, grace_end: 0, last_served: 0 };
        let runs = [run.clone(), run];
        Self {
            now: 0,
            runs,
            tasks: Vec::new(),
            tokens: Vec::new(),
            attempts: Vec::new(),
            approvals: Approvals::default(),
        }
    }
}

fn allows_claims(status: RunStatus) -> bool {
    matches!(status, Planning | Running | Blocked)
}

pub fn has_ended(status: RunStatus) -> bool {
    matches!(status, Cancelling | Completed | Failed | Cancelled)
}

fn overlap(a: Option<u8>, b: Option<u8>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a == b || a == 2 || b == 2)
}

impl Model {
    pub fn call(&mut self, op: &Op) -> CallResult {
        match op {
            Op::Add { run, tasks } => self.add(*run, tasks),
            Op::Replace { run, tasks, keep } => self.replace(*run, tasks, *keep),
            Op::Claim { run, able, seconds } => self.claim(*run, *able, seconds * 1_000),
            Op::Beat { token, seconds } => self.beat(*token, *seconds),
            Op::Complete { task, caller } => self.end(*task, *caller, TaskStatus::Completed, None),
            Op::Block { task, caller } => self.end(*task, *caller, TaskStatus::Blocked, None),
            Op::Abandon { task, caller } => self.end(*task, *caller, TaskStatus::Abandoned, None),
            Op::Fail { token, delay, signed } => self.fail(*token, *delay, *signed),
            Op::Release { token } => self.release(*token),
            Op::Requeue { task } => self.requeue(*task),
            Op::RequeueAll { run } => self.requeue_all(*run),
            Op::Pause { run } => self.control(*run, |run| {
                if run.status != Paused {
                    run.before_pause = run.status;
                    run.status = Paused;
                }
            }),
            Op::Resume { run } => self.control(*run, |run| {
                if run.status == Paused {
                    run.status = run.before_pause;
                }
            }),
            Op::Cancel { run, grace } => self.cancel(*run, grace.unwrap_or(30) * 1_000),
            Op::SetStatus { run, status } => self.set_status(*run, *status),
            Op::Ask { .. } | Op::Decide { .. } | Op::CancelApproval { .. } | Op::Consume { .. } => {
                let ended = |run: usize| has_ended(self.runs[run].status);
                self.approvals.call(op, self.now, ended)
            }
            Op::Advance(_) => unreachable!("advancing time is not a call"),
        }
    }

    pub fn observe(&self) -> Observation {
        let view = |task: &Task| TaskView {
            status: task.status,
            attempts: task.attempts,
            failures: task.failures,
            signature: task.signature.clone(),
            lease_end: task.lease.filter(|_| task.status == TaskStatus::InProgress).map(|lease| lease.end),
            not_before: task.not_before,
        };
        let statuses = [self.runs[0].status, self.runs[1].status];
        let attempts = self.attempts.iter().map(|status| i32::from(*status)).collect();
        let claimable = (0..self.tasks.len()).map(|at| self.is_ready(at)).collect();
        let tasks = self.tasks.iter().map(view).collect();
        Observation { tasks, claimable, attempts, statuses, approvals: self.approvals.observe() }
    }

    /// Returns the tasks that a new task depends on, from its distances back in the run's plan.
    pub fn dependencies(&self, run: usize, task: &NewTask) -> Vec<usize> {
        let plan: Vec<usize> = (0..self.tasks.len()).filter(|at| self.tasks[*at].run == run).collect();
        let mut found: Vec<usize> =
            task.depends_on.iter().filter_map(|back| plan.len().checked_sub(back + 1)).map(|at| plan[at]).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Returns the task and the token that a caller means. The token is None for an operator.
    pub fn target(&self, place: usize, caller: Caller) -> Option<(usize, Option<usize>)> {
        let by_place = place.checked_rem(self.tasks.len())?;
        Some(match caller {
            Caller::Operator => (by_place, None),
            Caller::Newest => self.token(place).map_or((by_place, None), |token| (self.tokens[token], Some(token))),
            Caller::Older => {
                let mut of_task = (0..self.tokens.len()).rev().filter(|token| self.tokens[*token] == by_place);
                (by_place, of_task.nth(1))
            }
        })
    }

    /// Returns true if the caller's lease has expired and its token is still current.
    pub fn is_late(&self, op: &Op) -> bool {
        let (at, token) = match op {
            Op::Beat { token, .. } | Op::Fail { token, .. } | Op::Release { token } => match self.token(*token) {
                Some(token) => (self.tokens[token], Some(token)),
                None => return false,
            },
            Op::Complete { task, caller } | Op::Block { task, caller } | Op::Abandon { task, caller } => {
                match self.target(*task, *caller) {
                    Some(target) => target,
                    None => return false,
                }
            }
            _ => return false,
        };
        self.holder(at, token) == Ok(Some(true))
    }

    /// Picks one of the newest tokens, so that a token is used more than once.
    pub fn token(&self, token: usize) -> Option<usize> {
        let newest = self.tokens.len().min(8);
        token.checked_rem(newest).map(|back| self.tokens.len() - 1 - back)
    }

    fn add(&mut self, run: usize, tasks: &[NewTask]) -> CallResult {
        if has_ended(self.runs[run].status) {
            return Err(Reason::RunEnded);
        }
        let dependencies: Vec<Vec<usize>> = tasks.iter().map(|task| self.dependencies(run, task)).collect();
        let abandoned = |at: &usize| self.tasks[*at].status == TaskStatus::Abandoned;
        if dependencies.iter().flatten().any(abandoned) {
            return Err(Reason::WrongStatus);
        }
        for (task, depends_on) in tasks.iter().zip(dependencies) {
            self.tasks.push(Task {
                run,
                depends_on,
                path: task.path,
                priority: task.priority,
                max_attempts: task.max_attempts,
                needs_ability: task.needs_ability,
                not_before: task.not_before.map(|seconds| self.now + seconds * 1_000),
                status: TaskStatus::Pending,
                attempts: 0,
                failures: 0,
                signature: None,
                lease: None,
            });
        }
        Ok(Answer::Done)
    }

    fn replace(&mut self, run: usize, tasks: &[NewTask], keep: bool) -> CallResult {
        if has_ended(self.runs[run].status) {
            return Err(Reason::RunEnded);
        }
        let before = self.clone();
        let mut count = 0;
        for at in (0..self.tasks.len()).filter(|at| before.tasks[*at].run == run) {
            let status = self.tasks[at].status;
            if status == TaskStatus::Pending || (status == TaskStatus::InProgress && !keep) {
                self.abandon(at);
                count += 1;
            }
        }
        match self.add(run, tasks) {
            Ok(_) => Ok(Answer::Count(count)),
            Err(refused) => {
                *self = before;
                Err(refused)
            }
        }
    }

    /// Abandons a task and the live attempt at it.
    pub(super) fn abandon(&mut self, at: usize) {
        self.end_live_attempt(at, AttemptStatus::Abandoned);
        self.tasks[at].move_to(TaskStatus::Abandoned);
    }

    /// Ends the live attempt at a task, if there is one.
    pub(super) fn end_live_attempt(&mut self, at: usize, to: AttemptStatus) {
        let task = &self.tasks[at];
        if let (TaskStatus::InProgress, Some(lease)) = (task.status, task.lease) {
            self.attempts[lease.token] = to;
        }
    }

    pub(super) fn is_ready(&self, at: usize) -> bool {
        let task = &self.tasks[at];
        let done = |other: &usize| self.tasks[*other].status == TaskStatus::Completed;
        task.status == TaskStatus::Pending
            && task.depends_on.iter().all(done)
            && task.not_before.is_none_or(|time| time <= self.now)
            && allows_claims(self.runs[task.run].status)
            && !self.tasks.iter().any(|other| other.status == TaskStatus::InProgress && overlap(other.path, task.path))
    }

    fn claim(&mut self, run: Option<usize>, able: bool, duration: i64) -> CallResult {
        if run.is_some_and(|run| has_ended(self.runs[run].status)) {
            return Err(Reason::RunEnded);
        }
        let rank = |at: &usize| {
            let task = &self.tasks[*at];
            (-task.priority, self.runs[task.run].last_served, task.run, *at)
        };
        let wanted =
            |at: &usize| run.is_none_or(|run| self.tasks[*at].run == run) && (able || !self.tasks[*at].needs_ability);
        let best = (0..self.tasks.len()).filter(|at| wanted(at) && self.is_ready(*at)).min_by_key(rank);
        let Some(at) = best else { return Ok(Answer::Claimed(None)) };
        let token = self.tokens.len();
        self.tokens.push(at);
        self.attempts.push(AttemptStatus::Running);
        self.runs[self.tasks[at].run].last_served = self.tokens.len();
        let task = &mut self.tasks[at];
        task.move_to(TaskStatus::InProgress);
        task.lease = Some(Lease { token, duration, end: self.now + duration });
        task.attempts += 1;
        Ok(Answer::Claimed(Some((at, task.attempts))))
    }

    fn beat(&mut self, token: usize, seconds: Option<i64>) -> CallResult {
        const LOST: CallResult = Ok(Answer::Beaten(2, None));
        let Some(token) = self.token(token) else { return LOST };
        let at = self.tokens[token];
        let Some(lease) = self.tasks[at].lease.filter(|lease| lease.token == token) else { return LOST };
        let run = &self.runs[self.tasks[at].run];
        let mut end = self.now + seconds.map_or(lease.duration, |seconds| seconds * 1_000);
        let state = match run.status {
            Cancelling => {
                end = end.min(run.grace_end);
                3
            }
            Paused => 4,
            _ => 1,
        };
        if self.tasks[at].status != TaskStatus::InProgress {
            if !self.is_ready(at) {
                return LOST;
            }
            self.tasks[at].status = TaskStatus::InProgress;
            self.tasks[at].failures -= 1;
            self.attempts[token] = AttemptStatus::Running;
        }
        self.tasks[at].lease = Some(Lease { end, ..lease });
        Ok(Answer::Beaten(state, Some(end)))
    }
}

impl Task {
    /// Moves the task to another status and removes its lease.
    pub(super) fn move_to(&mut self, status: TaskStatus) {
        self.status = status;
        self.lease = None;
    }

    pub(super) fn block_if_exhausted(&mut self, signature: Option<&str>) {
        let exhausted = self.max_attempts > 0 && self.failures >= self.max_attempts;
        if exhausted && self.status == TaskStatus::Pending {
            self.status = TaskStatus::Blocked;
            self.signature = Some(signature.unwrap_or("attempts_exhausted").to_owned());
        }
    }
}
