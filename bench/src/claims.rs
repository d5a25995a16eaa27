//! This module measures the highest rate of ClaimTask and CompleteTask that a fixed number of agents reaches.

use std::sync::Arc;

use indicatif::HumanCount;
use runhub_api::v1;
use runhub_api::v1::task_service_client::TaskServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::Error;
use crate::bench::Bench;
use crate::load::{self, EmptyCalls, Load, RepeatedCall, run_closed_loop};
use crate::row::{Row, Target};

/// Target: the minimum ratio of the rate of claim and completion pairs to the rate of empty calls (GetServerInfo).
const MIN_SHARE_OF_EMPTY_CALL: f64 = 0.20;

/// Number of ready tasks in the measured run. The tasks have no allowed_paths.
const TASKS: usize = 40_000;
/// Maximum number of tasks that the API accepts in one AddTasks call.
pub const TASKS_PER_CALL: usize = 1_000;

/// Measures the rate at which agents claim and complete tasks, and returns one result row. Fails if a call fails.
pub async fn measure_claims(bench: &Bench) -> Result<Vec<Row>, Error> {
    let tasks = bench.scale_count(TASKS);
    let claim_calls = Arc::new(ClaimCalls::new(bench, tasks).await?);
    let empty_calls = Arc::new(EmptyCalls(claim_calls.connections.clone()));
    bench.start_progress("claims", 2 * bench.short_rounds());
    let empty_round = async || run_closed_loop(&empty_calls, bench.short_round(), bench.agents).await;
    let (empty, pairs) = bench.alternate_rounds(empty_round, async || claim_calls.run_round(bench).await).await?;
    let tasks = HumanCount(tasks as u64);
    let name = format!("claim + complete, {} agents, {tasks} ready tasks; vs. the empty call", bench.agents);
    let row = Row::rate(name, "pairs/s", &pairs).with_ceiling(empty.calls_per_second());
    Ok(vec![row.with_target(Target::AtLeast(MIN_SHARE_OF_EMPTY_CALL))])
}

/// Adds `count` ready tasks to a run. Fails if an AddTasks call fails.
pub async fn add_tasks(bench: &Bench, run_id: &str, count: usize) -> Result<(), Error> {
    bench.start_progress("tasks", count);
    for added in (0..count).step_by(TASKS_PER_CALL) {
        add_tasks_in_one_call(bench, run_id, TASKS_PER_CALL.min(count - added)).await?;
        bench.advance(TASKS_PER_CALL);
    }
    Ok(())
}

async fn add_tasks_in_one_call(bench: &Bench, run_id: &str, count: usize) -> Result<(), Error> {
    let tasks = vec![v1::TaskDraft { title: "task".to_owned(), ..Default::default() }; count];
    bench.client.add_tasks(v1::AddTasksRequest { run_id: run_id.to_owned(), tasks, ..Default::default() }).await?;
    Ok(())
}

/// The calls of agents that claim a task of one run and then complete the task.
pub struct ClaimCalls {
    pub connections: Vec<Channel>,
    pub run_id: String,
}

impl ClaimCalls {
    /// Opens a connection for each agent, and returns the calls that claim tasks of a new run with `tasks` ready tasks.
    /// Fails if a connection or a call fails.
    pub async fn new(bench: &Bench, tasks: usize) -> Result<Self, Error> {
        let run_id = bench.create_run().await?;
        add_tasks(bench, &run_id, tasks).await?;
        Ok(Self { connections: load::open_connections(&bench.url, bench.agents).await?, run_id })
    }

    /// Runs a short round. Then adds as many tasks as the agents have completed, so that each round begins with the
    /// same number of ready tasks. Fails if a call fails.
    pub async fn run_round(self: &Arc<Self>, bench: &Bench) -> Result<Load, Error> {
        let load = run_closed_loop(self, bench.short_round(), bench.agents).await?;
        let mut missing = usize::try_from(load.times.len()).unwrap_or_default();
        while missing > 0 {
            let count = missing.min(TASKS_PER_CALL);
            add_tasks_in_one_call(bench, &self.run_id, count).await?;
            missing -= count;
        }
        Ok(load)
    }
}

impl RepeatedCall for ClaimCalls {
    async fn call(&self, caller: usize) -> Result<(), Status> {
        let mut tasks = TaskServiceClient::new(load::connection_for_caller(&self.connections, caller));
        let claimed = tasks.claim_task(claim_request(self.run_id.clone(), None)).await?.into_inner().claim;
        let claim = claimed.ok_or_else(|| {
            Status::aborted(format!("run {} has no ready task to claim: report the bug", self.run_id))
        })?;
        tasks.complete_task(completion_request(&claim)).await.map(drop)
    }
}

/// Returns the request that completes the task of a claim.
pub fn completion_request(claim: &v1::Claim) -> v1::CompleteTaskRequest {
    v1::CompleteTaskRequest {
        task_id: claim.task.as_ref().map(|task| task.id.clone()).unwrap_or_default(),
        lease_token: Some(claim.lease_token.clone()),
        ..Default::default()
    }
}

/// Returns a request that claims a task of the run `run_id`. If `run_id` is empty, the request claims a task of any
/// run.
pub fn claim_request(run_id: String, wait: Option<prost_types::Duration>) -> v1::ClaimTaskRequest {
    v1::ClaimTaskRequest { run_id, agent_id: "bench".to_owned(), wait, ..Default::default() }
}
