//! This module extends leases on heartbeats, expires leases without heartbeats, and extends leases after a stall.

use std::time::Duration;

use super::claim_index::ClaimIndex;
use super::{Outcome, cancel, obstacle, task};
use crate::domain::Key;
use crate::domain::attempt::AttemptStatus;
use crate::domain::json::Json;
use crate::domain::lease::{Lease, LeaseState};
use crate::domain::run::RunStatus;
use crate::domain::system_event;
use crate::domain::task::Task;
use crate::domain::time::{ClockStep, Timestamp};
use crate::error::Result;
use crate::store::runs::StatusAndGrace;
use crate::store::{Signal, Tx, attempts, due, events, runs, tasks};

/// A Heartbeat call, which contains heartbeats for one or more leases.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// The heartbeats, one for each lease.
    pub beats: Vec<LeaseHeartbeat>,
    /// The time from this call until the extended leases expire. None means that the server extends each lease by the
    /// duration that the claim requested.
    pub duration: Option<Duration>,
}

/// A heartbeat for one lease.
#[derive(Debug, Clone)]
pub struct LeaseHeartbeat {
    /// The token of the lease.
    pub token: String,
    /// The progress that the holder reports. None means that the stored progress does not change.
    pub progress: Option<Json>,
}

/// The state of a lease after a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatResult {
    /// The state of the lease, which tells the holder whether to continue the task.
    pub state: LeaseState,
    /// The time when the lease expires. If the holder has lost the lease, the value is None.
    pub expire_time: Option<Timestamp>,
}

const LOST_LEASE: HeartbeatResult = HeartbeatResult { state: LeaseState::Lost, expire_time: None };
const LOST: Outcome<HeartbeatResult> = Outcome::Done(LOST_LEASE);

/// Extends the lease of each heartbeat. If a lease has expired and the lease's task is still claimable, resumes the
/// lease. Returns the state of each lease, in the order of the heartbeats. If the check of an expired lease is
/// postponed, the outcome is `Postponed`, and a repeated transaction extends the other leases again.
pub fn heartbeat(tx: &mut dyn Tx, heartbeat: &Heartbeat, index: &ClaimIndex) -> Result<Outcome<Vec<HeartbeatResult>>> {
    let mut results = Vec::with_capacity(heartbeat.beats.len());
    for beat in &heartbeat.beats {
        match extend(tx, beat, heartbeat.duration, index)? {
            Outcome::Done(result) => results.push(result),
            other => return Ok(other.map(|_| Vec::new())),
        }
    }
    Ok(Outcome::Done(results))
}

fn extend(
    tx: &mut dyn Tx,
    beat: &LeaseHeartbeat,
    duration: Option<Duration>,
    index: &ClaimIndex,
) -> Result<Outcome<HeartbeatResult>> {
    let Some(task) = tasks::find_by_lease(tx, &beat.token)? else { return Ok(LOST) };
    let Some(lease) = task.lease.clone() else { return Ok(LOST) };
    let run = runs::get_status_and_grace(tx, task.run_key)?;
    let expire_time = compute_expire_time(&run, tx.now(), duration.unwrap_or(lease.duration));
    if task.is_held() {
        tasks::extend_lease(tx, task.key, expire_time)?;
    } else {
        match obstacle::is_claimable(tx, &task, run.status, index)? {
            Outcome::Done(true) => resume(tx, &task, Lease { expire_time, ..lease })?,
            other => return Ok(other.map(|_| LOST_LEASE)),
        }
    }
    if let Some(progress) = &beat.progress {
        attempts::save_progress(tx, &task, progress)?;
    }
    tx.signal(Signal::Due(expire_time));
    let state = match run.status {
        RunStatus::Cancelling => LeaseState::CancelRequested,
        RunStatus::Paused => LeaseState::PauseRequested,
        _ => LeaseState::Extended,
    };
    Ok(Outcome::Done(HeartbeatResult { state, expire_time: Some(expire_time) }))
}

/// Returns the time when an extended lease expires. While the run is being cancelled, a lease expires at the end of the
/// grace period at the latest.
fn compute_expire_time(run: &StatusAndGrace, now: Timestamp, duration: Duration) -> Timestamp {
    let wanted = now.plus(duration);
    run.grace_end_time.map_or(wanted, |end| end.min(wanted))
}

/// Resumes an expired lease: the agent that held the lease before the expiry holds the lease again.
fn resume(tx: &mut dyn Tx, task: &Task, lease: Lease) -> Result<()> {
    let (_, agent_id) = attempts::find_claim(tx, task.key, &lease.token)?.unzip();
    let next = task.resumed(agent_id.flatten(), lease, tx.now());
    tasks::save(tx, &next)?;
    attempts::reopen(tx, &next)?;
    events::append(tx, next.run_key, &system_event::lease_resumed(&next)).map(drop)
}

/// Expires the lease whose `expire_time` had passed at the time `read_at`, and returns the lease's task in the state
/// before the expiry. Returns None if a heartbeat has extended the lease, if no agent holds a lease on the task, or if
/// the task was deleted.
pub fn expire(tx: &mut dyn Tx, task_key: Key, read_at: Timestamp) -> Result<Option<Task>> {
    let Some(task) = tasks::find_by_key(tx, task_key)? else { return Ok(None) };
    if !task.is_held() {
        return Ok(None);
    }
    let run_status = runs::get_status_and_grace(tx, task.run_key)?.status;
    let next = task.expired(run_status, tx.now());
    if !tasks::expire_lease(tx, &next, read_at)? {
        return Ok(None);
    }
    attempts::end_without_report(tx, &task, AttemptStatus::LeaseExpired)?;
    events::append(tx, task.run_key, &system_event::lease_expired(&task, &next))?;
    task::signal_status_change(tx, &task, &next)?;
    // While a run is being cancelled, a task whose lease expires is abandoned. The task's dependents need not be
    // blocked, because the cancellation has already abandoned all pending tasks.
    if run_status == RunStatus::Cancelling {
        cancel::finish_if_idle(tx, task.run_key)?;
    }
    Ok(Some(task))
}

/// Extends the leases and the grace periods that had not ended at `live_at`, as `due::recover` does, so that the agents
/// can send heartbeats before the leases expire. Returns the number of extended leases and grace periods. If the clock
/// was set by `step`, the function first moves the ends of all durations and changes the time of the server.
pub fn recover(tx: &mut dyn Tx, live_at: Timestamp, step: ClockStep) -> Result<u64> {
    if step != ClockStep::NONE {
        tx.step_clock(step)?;
        due::move_durations(tx, step)?;
    }
    let now = tx.now();
    due::recover(tx, live_at.after_step(step), now)
}
