//! This module leases the next claimable task to an agent.

use std::time::Duration;

use super::Outcome;
use super::claim_index::{ClaimIndex, Scope};
use crate::domain::attempt::TaskAttempt;
use crate::domain::lease::Lease;
use crate::domain::system_event;
use crate::domain::task::Task;
use crate::error::Result;
use crate::store::tasks::ReadyTask;
use crate::store::{Signal, Tx, attempts, events, runs, tasks};

/// The request of an agent to claim a task.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The id of the run whose tasks the agent accepts. None accepts the tasks of all runs.
    pub run_id: Option<String>,
    /// The id of the agent that will hold the task's lease.
    pub agent_id: String,
    /// The capabilities of the agent. The claimed task requires no other capability.
    pub capabilities: Vec<String>,
    /// The time from the claim until the lease expires. Heartbeats can extend the lease.
    pub lease_duration: Duration,
}

/// A claimed task with its lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The claimed task, whose lease the agent holds.
    pub task: Task,
    /// The lease that the agent holds.
    pub lease: Lease,
    /// The task's newest attempt before this claim. If the task had no attempt before, the value is None.
    pub previous_attempt: Option<TaskAttempt>,
}

/// Leases the next claimable task to the agent. Returns the task and the lease, or None if no task is claimable. The
/// outcome is `Postponed` if the index is not loaded, or if the claim exceeds a limit on the work of one transaction.
/// `tries` is the number of times that the claim was postponed before. Fails if the requested run does not exist, has
/// ended or is being cancelled.
pub fn claim(
    tx: &mut dyn Tx,
    request: &ClaimRequest,
    index: &ClaimIndex,
    tries: usize,
) -> Result<Outcome<Option<Claim>>> {
    match find_next_claimable(tx, request, index, tries)? {
        Outcome::Done(Some(task)) => Ok(Outcome::Done(Some(lease_task(tx, request, task)?))),
        other => Ok(other.map(|_| None)),
    }
}

/// Returns the next task that the agent can claim, or None if no task is claimable. The claim index selects
/// tasks by the same rule that `obstacle::is_claimable` applies to one task.
fn find_next_claimable(
    tx: &mut dyn Tx,
    request: &ClaimRequest,
    index: &ClaimIndex,
    tries: usize,
) -> Result<Outcome<Option<ReadyTask>>> {
    let mut run_key = None;
    if let Some(run_id) = &request.run_id {
        let run = runs::get_state(tx, run_id)?;
        let status = run.status.status;
        status.check_active(run_id)?;
        if !status.allows_claims() {
            return Ok(Outcome::Done(None));
        }
        run_key = Some(run.key);
    }
    index.find_next(tx, Scope { run_key, capabilities: &request.capabilities }, tries)
}

fn lease_task(tx: &mut dyn Tx, request: &ClaimRequest, ready: ReadyTask) -> Result<Claim> {
    let now = tx.now();
    let lease = Lease::start(tx.new_token(), request.lease_duration, now);
    let task = ready.task.claimed(&request.agent_id, lease.clone(), now);
    tasks::save(tx, &task)?;
    let attempt_key = attempts::open(tx, &task)?;
    events::append_claim(tx, task.run_key, attempt_key, &system_event::task_claimed(&task))?;
    tx.signal(Signal::Due(lease.expire_time));
    let previous_attempt = ready.newest_attempt_key.map(|key| attempts::get_by_key(tx, key)).transpose()?;
    Ok(Claim { task, lease, previous_attempt })
}
