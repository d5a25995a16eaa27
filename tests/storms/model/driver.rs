//! The real services over a store of their own, swept when time passes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runhub_api::v1::approval_service_server::ApprovalService;
use runhub_api::v1::run_service_server::RunService;
use runhub_api::v1::task_service_server::TaskService;
use runhub_client::v1::*;
use runhub_client::{Error, Reason};
use runhub_server::clock::{Clock, ManualClock};
use runhub_server::domain::time::Timestamp;
use runhub_server::rpc::snapshot::spool::Spool;
use runhub_server::rpc::{Hub, Settings, new_tail};
use runhub_server::store::Store;
use runhub_server::sweeper::{self, Sweeper};
use runhub_server::wake::Waiters;
use tempfile::TempDir;
use tonic::{Request, Response, Status};

use super::approvals::newest;
use super::ops::{Caller, NewTask, Op};
use super::state::{Answer, CallResult, Model, Observation, TaskView};
use crate::support::calls::{seconds, unset};
use crate::support::database::TestDatabase;

const START: i64 = 1_800_000_000;

pub struct Driver {
    hub: Hub,
    store: Store,
    sweeper: Sweeper,
    clock: ManualClock,
    runs: Vec<String>,
    tasks: Vec<String>,
    tokens: Vec<String>,
    /// Task and attempt number of each token.
    claims: Vec<(String, i32)>,
    approvals: Vec<String>,
    _folder: TempDir,
}

/// Returns a folder in memory if there is one. Other tests cover what is on disk after a crash.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn answer<T>(result: Result<Response<T>, Status>) -> Result<T, Reason> {
    let refused = |status: Status| Error::from(status).reason().expect("a reason").clone();
    result.map(Response::into_inner).map_err(refused)
}

fn millis(time: Option<prost_types::Timestamp>) -> Option<i64> {
    time.map(|time| (time.seconds - START) * 1_000 + i64::from(time.nanos) / 1_000_000)
}

impl Driver {
    pub async fn start() -> Self {
        let folder = folder();
        let clock = ManualClock::starting_at(Timestamp::from_seconds_and_nanos(START, 0).unwrap());
        let waiters = Arc::new(Waiters::default());
        let store = Store::open_at(
            &TestDatabase::in_folder(folder.path()).location(),
            Arc::new(clock.clone()),
            waiters.listener(),
        )
        .unwrap();
        sweeper::take_role(&store).await.unwrap();
        let sweeper = Sweeper::new(store.clone(), Arc::new(clock.clone()), Arc::clone(&waiters));
        let (_, draining) = tokio::sync::watch::channel(false);
        let tail = Arc::new(new_tail(&store));
        let spool = Arc::new(Spool::new(folder.path().to_owned(), 0, 0));
        let settings = Settings { default_lease: Duration::from_secs(60), advertised: None };
        let hub = Hub::new(store.clone(), Arc::new(clock.clone()), waiters, tail, spool, settings, draining);
        let mut runs = Vec::new();
        for _ in 0..2 {
            let request = CreateRunRequest { goal: "g".into(), repo_path: "/repo".into(), ..unset() };
            runs.push(answer(hub.create_run(Request::new(request)).await).unwrap().run.unwrap().id);
        }
        let tasks = Vec::new();
        let tokens = Vec::new();
        let claims = Vec::new();
        let approvals = Vec::new();
        Self { hub, store, sweeper, clock, runs, tasks, tokens, claims, approvals, _folder: folder }
    }

    pub async fn end(self) {
        self.store.close().await;
    }

    pub async fn advance_clock(&mut self, time: Duration) {
        self.clock.advance(time);
        self.sweeper.sweep().await.unwrap();
    }

    /// Makes the call. The model has made it already, and resolves the numbers of the operation.
    pub async fn call(&mut self, op: &Op, model: &Model) -> CallResult {
        match op {
            Op::Add { run, tasks } => self.add(*run, tasks, model).await,
            Op::Replace { run, tasks, keep } => self.replace(*run, tasks, *keep, model).await,
            Op::Claim { run, able, seconds } => self.claim(*run, *able, *seconds).await,
            Op::Beat { token, seconds } => self.beat(self.token(*token), *seconds).await,
            Op::Complete { task, caller } | Op::Block { task, caller } | Op::Abandon { task, caller } => {
                self.end_task(op, *task, *caller, model).await
            }
            Op::Fail { .. } | Op::Release { .. } => self.fail_or_release(op, model).await,
            Op::Requeue { task } => {
                let Some(task_id) = self.task(*task) else { return Ok(Answer::Done) };
                let request = RequeueTaskRequest { task_id, ..unset() };
                answer(self.hub.requeue_task(Request::new(request)).await).map(|_| Answer::Done)
            }
            Op::RequeueAll { run } => {
                let request = RequeueInProgressTasksRequest { run_id: self.runs[*run].clone(), ..unset() };
                let answered = answer(self.hub.requeue_in_progress_tasks(Request::new(request)).await)?;
                Ok(Answer::Count(answered.requeued_count))
            }
            Op::Pause { .. } | Op::Resume { .. } | Op::Cancel { .. } | Op::SetStatus { .. } => self.control(op).await,
            _ => self.approval(op).await,
        }
    }

    fn task(&self, task: usize) -> Option<String> {
        task.checked_rem(self.tasks.len()).map(|at| self.tasks[at].clone())
    }

    fn token(&self, token: usize) -> String {
        let newest = self.tokens.len().min(8);
        let at = token.checked_rem(newest).map(|back| self.tokens.len() - 1 - back);
        at.map_or("nobody's".to_owned(), |at| self.tokens[at].clone())
    }

    fn drafts(&self, tasks: &[NewTask], before: &[usize]) -> Vec<TaskDraft> {
        let now = self.clock.now();
        let draft = |task: &NewTask| TaskDraft {
            title: "t".into(),
            depends_on: self.dependencies(task, before),
            allowed_paths: task.path.map(|path| vec![["a/*", "b", "**"][usize::from(path)].into()]).unwrap_or_default(),
            priority: task.priority,
            max_attempts: task.max_attempts,
            required_capabilities: if task.needs_ability { vec!["able".into()] } else { vec![] },
            not_before_time: task.not_before.map(|seconds| plus(now, seconds)),
            ..unset()
        };
        tasks.iter().map(draft).collect()
    }

    fn dependencies(&self, task: &NewTask, plan: &[usize]) -> Vec<String> {
        let places = task.depends_on.iter().filter_map(|back| plan.len().checked_sub(back + 1));
        places.map(|place| self.tasks[plan[place]].clone()).collect()
    }

    /// Returns the run's plan before the call, as far as the driver knows it.
    fn plan(&self, run: usize, model: &Model) -> Vec<usize> {
        (0..self.tasks.len()).filter(|at| model.tasks[*at].run == run).collect()
    }

    async fn add(&mut self, run: usize, tasks: &[NewTask], model: &Model) -> CallResult {
        let tasks = self.drafts(tasks, &self.plan(run, model));
        let request = AddTasksRequest { run_id: self.runs[run].clone(), tasks, ..unset() };
        let added = answer(self.hub.add_tasks(Request::new(request)).await)?;
        self.tasks.extend(added.tasks.into_iter().map(|task| task.id));
        Ok(Answer::Done)
    }

    async fn replace(&mut self, run: usize, tasks: &[NewTask], keep: bool, model: &Model) -> CallResult {
        let tasks = self.drafts(tasks, &self.plan(run, model));
        let in_progress = if keep { InProgressPolicy::Keep } else { InProgressPolicy::Abandon }.into();
        let request = ReplacePendingTasksRequest { run_id: self.runs[run].clone(), tasks, in_progress, ..unset() };
        let replaced = answer(self.hub.replace_pending_tasks(Request::new(request)).await)?;
        self.tasks.extend(replaced.tasks.into_iter().map(|task| task.id));
        Ok(Answer::Count(replaced.abandoned_count))
    }

    async fn claim(&mut self, run: Option<usize>, able: bool, lease: i64) -> CallResult {
        let request = ClaimTaskRequest {
            run_id: run.map(|run| self.runs[run].clone()).unwrap_or_default(),
            agent_id: "agent".into(),
            capabilities: if able { vec!["able".into()] } else { vec![] },
            lease_duration: seconds(lease),
            ..unset()
        };
        let Some(claim) = answer(self.hub.claim_task(Request::new(request)).await)?.claim else {
            return Ok(Answer::Claimed(None));
        };
        self.tokens.push(claim.lease_token);
        let id = claim.task.unwrap().id;
        self.claims.push((id.clone(), claim.attempt_number));
        let at = self.tasks.iter().position(|task| *task == id).unwrap();
        Ok(Answer::Claimed(Some((at, claim.attempt_number))))
    }

    async fn beat(&self, lease_token: String, lease: Option<i64>) -> CallResult {
        let beats = vec![Beat { lease_token, ..unset() }];
        let request = HeartbeatRequest { beats, lease_duration: lease.and_then(seconds) };
        let result = answer(self.hub.heartbeat(Request::new(request)).await)?.results.remove(0);
        Ok(Answer::Beaten(result.state, millis(result.lease_expire_time)))
    }

    async fn end_task(&self, op: &Op, task: usize, caller: Caller, model: &Model) -> CallResult {
        let Some((at, token)) = model.target(task, caller) else { return Ok(Answer::Done) };
        let task_id = self.tasks[at].clone();
        let lease_token = token.map(|token| self.tokens[token].clone());
        let done = match op {
            Op::Complete { .. } => {
                let request = CompleteTaskRequest { task_id, lease_token, ..unset() };
                answer(self.hub.complete_task(Request::new(request)).await).map(drop)
            }
            Op::Block { .. } => {
                let request = BlockTaskRequest { task_id, lease_token, ..unset() };
                answer(self.hub.block_task(Request::new(request)).await).map(drop)
            }
            _ => {
                let request = AbandonTaskRequest { task_id, lease_token, ..unset() };
                answer(self.hub.abandon_task(Request::new(request)).await).map(drop)
            }
        };
        done.map(|()| Answer::Done)
    }

    async fn fail_or_release(&self, op: &Op, model: &Model) -> CallResult {
        let (Op::Fail { token, .. } | Op::Release { token }) = op else { unreachable!("not a failure or release") };
        let Some(token) = model.token(*token) else { return Ok(Answer::Done) };
        let task_id = self.tasks[model.tokens[token]].clone();
        let lease_token = self.tokens[token].clone();
        let done = match op {
            Op::Fail { delay, signed, .. } => {
                let blocker_signature = signed.then(|| "signed".to_owned());
                let retry_delay = delay.and_then(seconds);
                let request = FailTaskRequest { task_id, lease_token, blocker_signature, retry_delay, ..unset() };
                answer(self.hub.fail_task(Request::new(request)).await).map(drop)
            }
            _ => {
                let request = ReleaseTaskRequest { task_id, lease_token, ..unset() };
                answer(self.hub.release_task(Request::new(request)).await).map(drop)
            }
        };
        done.map(|()| Answer::Done)
    }

    async fn control(&self, op: &Op) -> CallResult {
        let run_id = |run: usize| self.runs[run].clone();
        let run = match op {
            Op::Pause { run } => {
                let request = PauseRunRequest { run_id: run_id(*run), ..unset() };
                answer(self.hub.pause_run(Request::new(request)).await)?.run
            }
            Op::Resume { run } => {
                let request = ResumeRunRequest { run_id: run_id(*run), ..unset() };
                answer(self.hub.resume_run(Request::new(request)).await)?.run
            }
            Op::Cancel { run, grace } => {
                let request = CancelRunRequest { run_id: run_id(*run), grace: grace.and_then(seconds), ..unset() };
                answer(self.hub.cancel_run(Request::new(request)).await)?.run
            }
            Op::SetStatus { run, status } => {
                let request = UpdateRunRequest { run_id: run_id(*run), status: Some(*status), ..unset() };
                answer(self.hub.update_run(Request::new(request)).await)?.run
            }
            _ => unreachable!("not a run control call"),
        };
        Ok(Answer::Run(run.unwrap().status()))
    }

    async fn approval(&mut self, op: &Op) -> CallResult {
        let named = |number: usize| newest(number, self.approvals.len()).map(|at| self.approvals[at].clone());
        let done = match op {
            Op::Ask { run, policy, seconds: ttl } => {
                let run_id = self.runs[*run].clone();
                let title = "t".to_owned();
                let subject_digest = "right".to_owned();
                let ttl = ttl.and_then(seconds);
                let on_expiry = *policy;
                let request = RequestApprovalRequest { run_id, title, subject_digest, ttl, on_expiry, ..unset() };
                let asked = answer(self.hub.request_approval(Request::new(request)).await)?;
                self.approvals.push(asked.approval.unwrap().id);
                Ok(())
            }
            Op::Decide { approval, verdict } => {
                let Some(approval_id) = named(*approval) else { return Ok(Answer::Done) };
                let source = "human".to_owned();
                let verdict = *verdict;
                let request = DecideApprovalRequest { approval_id, source, verdict, ..unset() };
                answer(self.hub.decide_approval(Request::new(request)).await).map(drop)
            }
            Op::CancelApproval { approval } => {
                let Some(approval_id) = named(*approval) else { return Ok(Answer::Done) };
                let request = CancelApprovalRequest { approval_id, ..unset() };
                answer(self.hub.cancel_approval(Request::new(request)).await).map(drop)
            }
            Op::Consume { approval, right } => {
                let Some(approval_id) = named(*approval) else { return Ok(Answer::Done) };
                let subject_digest = if *right { "right" } else { "wrong" }.to_owned();
                let request = ConsumeApprovalRequest { approval_id, subject_digest, ..unset() };
                answer(self.hub.consume_approval(Request::new(request)).await).map(drop)
            }
            _ => unreachable!("not an approval call"),
        };
        done.map(|()| Answer::Done)
    }

    /// Returns the state in the form in which the model returns its own.
    pub async fn observe(&self) -> Observation {
        let mut tasks = HashMap::new();
        let mut approvals = HashMap::new();
        let mut attempts = HashMap::new();
        let mut statuses = [RunStatus::Unspecified; 2];
        for (at, run_id) in self.runs.iter().enumerate() {
            let run_id = run_id.clone();
            let attempt_limit = 1_000;
            let request = GetRunSnapshotRequest { run_id, event_limit: 1, attempt_limit, ..unset() };
            let snapshot = answer(self.hub.get_run_snapshot(Request::new(request)).await).unwrap().snapshot.unwrap();
            statuses[at] = snapshot.run.unwrap().status();
            let lists =
                [snapshot.pending_tasks, snapshot.in_progress_tasks, snapshot.completed_tasks, snapshot.blocked_tasks];
            tasks.extend(lists.into_iter().flatten().map(|task| (task.id.clone(), task_view(&task))));
            let shown = snapshot.approvals.into_iter();
            approvals.extend(shown.map(|one| (one.id.clone(), (one.verdict, one.consume_time.is_some()))));
            let shown = snapshot.recent_attempts.into_iter();
            attempts.extend(shown.map(|attempt| ((attempt.task_id, attempt.attempt_number), attempt.status)));
        }
        let mut claimable = Vec::new();
        for task_id in &self.tasks {
            let request = Request::new(ExplainTaskRequest { task_id: task_id.clone() });
            claimable.push(answer(self.hub.explain_task(request).await).unwrap().claimable);
        }
        Observation {
            tasks: self.tasks.iter().map(|id| tasks[id].clone()).collect(),
            claimable,
            attempts: self.claims.iter().map(|claim| attempts[claim]).collect(),
            statuses,
            approvals: self.approvals.iter().map(|id| approvals[id]).collect(),
        }
    }
}

fn plus(now: Timestamp, seconds: i64) -> prost_types::Timestamp {
    now.plus(Duration::from_secs(seconds.unsigned_abs())).into()
}

fn task_view(task: &Task) -> TaskView {
    TaskView {
        status: task.status(),
        attempts: task.attempt_count,
        failures: task.failure_count,
        signature: task.blocker_signature.clone(),
        lease_end: millis(task.lease_expire_time),
        not_before: millis(task.not_before_time),
    }
}
