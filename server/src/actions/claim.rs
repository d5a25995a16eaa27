//! Claims: leasing the next claimable task to an agent (C2).

use std::time::Duration;

use super::paths::{HeldPaths, Overlaps};
use crate::domain::Key;
use crate::domain::attempt::TaskAttempt;
use crate::domain::lease::Lease;
use crate::domain::system_event;
use crate::domain::task::Task;
use crate::error::Result;
use crate::store::{Signal, Tx, attempts, events, ready, runs, tasks};

/// A request for a task: the agent, and the tasks that it accepts.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The run to take a task from. None: any run.
    pub run_id: Option<String>,
    /// The agent that will hold the task.
    pub agent_id: String,
    /// The capabilities of the agent.
    pub capabilities: Vec<String>,
    /// The time that the lease lives without a heartbeat.
    pub lease_duration: Duration,
}

/// A task that an agent has claimed.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The task after the claim.
    pub task: Task,
    /// The lease of the claim.
    pub lease: Lease,
    /// The newest attempt at the task before this claim.
    pub previous_attempt: Option<TaskAttempt>,
}

/// Leases the next claimable task to the agent. Returns None if no task is claimable.
pub fn claim(tx: &mut dyn Tx, request: &ClaimRequest, overlaps: &Overlaps) -> Result<Option<Claim>> {
    let Some(key) = next_claimable(tx, request, overlaps)? else { return Ok(None) };
    let now = tx.now();
    let lease = Lease::begin(tx.new_token(), request.lease_duration, now);
    let task = tasks::by_key(tx, key)?.claimed(&request.agent_id, lease.clone(), now);
    tasks::save(tx, &task)?;
    let attempt_key = attempts::open(tx, &task)?;
    runs::note_served(tx, task.run_key, attempt_key)?;
    events::append(tx, task.run_key, &system_event::task_claimed(&task))?;
    tx.signal(Signal::Due(lease.expire_time));
    let previous_attempt = attempts::newest_before(tx, task.key, attempt_key)?;
    Ok(Some(Claim { task, lease, previous_attempt }))
}

/// Returns the key of the task that the agent gets. The SQL of `store::ready` finds ready tasks by the same rule as
/// `obstacle::is_claimable` checks for one task.
fn next_claimable(tx: &mut dyn Tx, request: &ClaimRequest, overlaps: &Overlaps) -> Result<Option<Key>> {
    let mut held = HeldPaths::new(overlaps);
    let Some(run_id) = &request.run_id else {
        return ready::next_of_all(tx, &request.capabilities, &mut held);
    };
    let run = runs::get(tx, run_id)?;
    run.check_takes_work()?;
    if !run.status.allows_claims() {
        return Ok(None);
    }
    ready::next_of_run(tx, run.key, &request.capabilities, &mut held)
}
