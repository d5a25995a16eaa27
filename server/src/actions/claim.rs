//! This module leases the next claimable task to an agent.

use std::time::Duration;

use super::paths::{HeldPaths, Overlaps};
use crate::domain::Key;
use crate::domain::attempt::TaskAttempt;
use crate::domain::lease::Lease;
use crate::domain::system_event;
use crate::domain::task::Task;
use crate::error::Result;
use crate::store::{Signal, Tx, attempts, events, ready, runs, tasks};

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

/// Leases the next claimable task to the agent. Returns the task and the lease, or None if no task is claimable. Fails
/// if the requested run does not exist, has ended or is being cancelled.
pub fn claim(tx: &mut dyn Tx, request: &ClaimRequest, overlaps: &Overlaps) -> Result<Option<Claim>> {
    let Some(key) = find_next_claimable(tx, request, overlaps)? else { return Ok(None) };
    let now = tx.now();
    let lease = Lease::start(tx.new_token(), request.lease_duration, now);
    let task = tasks::get_by_key(tx, key)?.claimed(&request.agent_id, lease.clone(), now);
    tasks::save(tx, &task)?;
    let attempt_key = attempts::open(tx, &task)?;
    runs::record_claim(tx, task.run_key, attempt_key)?;
    events::append(tx, task.run_key, &system_event::task_claimed(&task))?;
    tx.signal(Signal::Due(lease.expire_time));
    let previous_attempt = attempts::find_newest_before(tx, task.key, attempt_key)?;
    Ok(Some(Claim { task, lease, previous_attempt }))
}

/// Returns the key of the next task that the agent can claim, or None if no task is claimable. `store::ready` selects
/// tasks in SQL by the same rule that `obstacle::is_claimable` applies to one task.
fn find_next_claimable(tx: &mut dyn Tx, request: &ClaimRequest, overlaps: &Overlaps) -> Result<Option<Key>> {
    let mut held = HeldPaths::new(overlaps);
    let Some(run_id) = &request.run_id else {
        return ready::find_next_of_all(tx, &request.capabilities, &mut held);
    };
    let run = runs::get(tx, run_id)?;
    run.check_active()?;
    if !run.status.allows_claims() {
        return Ok(None);
    }
    ready::find_next_of_run(tx, run.key, &request.capabilities, &mut held)
}
