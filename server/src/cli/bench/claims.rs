//! Claims: as many as it takes.

use std::sync::Arc;

use runhub_api::v1;
use runhub_api::v1::task_service_client::TaskServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use super::Bench;
use super::load::{self, EmptyCalls, Load, Until, Work, closed_loop};
use super::row::{Row, Target, counted};
use crate::cli::Failure;

/// The design's, of the empty call's rate.
const LEAST_OF_EMPTY_CALL: f64 = 0.18;

/// Ready tasks of one run, without paths.
const TASKS: usize = 40_000;
/// As many as one call takes.
const TASKS_A_CALL: usize = 1_000;

/// Agents that claim a task, complete it, and claim the next.
pub async fn claim_and_complete(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let run_id = bench.new_run().await?;
    let tasks = bench.times(TASKS);
    add_tasks(bench, &run_id, tasks).await?;
    let calls = tasks / bench.turns() / bench.agents;
    let connections = load::connections(&bench.url, bench.agents).await?;
    let empty_calls = Arc::new(EmptyCalls(connections.clone()));
    let working = Arc::new(Working { connections, run_id });
    bench.begin("claims", 2 * bench.turns());
    let (mut pairs, mut empty) = (Load::default(), Load::default());
    for _ in 0..bench.turns() {
        empty.extend(closed_loop(&empty_calls, bench.turn(), bench.agents).await?);
        bench.progress.inc(1);
        pairs.extend(closed_loop(&working, Until::Calls(calls), bench.agents).await?);
        bench.progress.inc(1);
    }
    let name = format!("claim + complete, {} agents, {} ready tasks; of the empty call", bench.agents, counted(tasks));
    let row = Row::rate(name, "pairs/s", &pairs);
    Ok(vec![row.of(empty.per_second()).judged_by(Target::AtLeast(LEAST_OF_EMPTY_CALL))])
}

/// Adds tasks that are ready.
pub async fn add_tasks(bench: &Bench, run_id: &str, count: usize) -> Result<(), Failure> {
    bench.begin("tasks", count);
    let draft = v1::TaskDraft { title: "task".to_owned(), ..Default::default() };
    for added in (0..count).step_by(TASKS_A_CALL) {
        let tasks = vec![draft.clone(); TASKS_A_CALL.min(count - added)];
        bench.client.add_tasks(v1::AddTasksRequest { run_id: run_id.to_owned(), tasks, ..Default::default() }).await?;
        bench.progress.inc(TASKS_A_CALL as u64);
    }
    Ok(())
}

/// Agents that work on one run.
struct Working {
    connections: Vec<Channel>,
    run_id: String,
}

impl Work for Working {
    async fn call(&self, caller: usize) -> Result<(), Status> {
        let mut tasks = TaskServiceClient::new(load::of_caller(&self.connections, caller));
        let claimed = tasks.claim_task(claim_request(self.run_id.clone(), None)).await?.into_inner().claim;
        let claim = claimed.ok_or_else(|| Status::aborted("there are no more tasks to claim"))?;
        tasks.complete_task(completion(&claim)).await.map(drop)
    }
}

/// What completes a task that was claimed.
pub fn completion(held: &v1::Claim) -> v1::CompleteTaskRequest {
    v1::CompleteTaskRequest {
        task_id: held.task.as_ref().map(|task| task.id.clone()).unwrap_or_default(),
        lease_token: Some(held.lease_token.clone()),
        ..Default::default()
    }
}

/// Of a run, for so long.
pub fn claim_request(run_id: String, wait: Option<prost_types::Duration>) -> v1::ClaimTaskRequest {
    v1::ClaimTaskRequest { run_id, agent_id: "bench".to_owned(), wait, ..Default::default() }
}
