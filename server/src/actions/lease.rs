//! Leases: heartbeats extend them, and without heartbeats they expire (C3, C4).

use std::time::Duration;

use super::paths::Overlaps;
use super::{cancel, obstacle, task};
use crate::domain::Key;
use crate::domain::attempt::AttemptStatus;
use crate::domain::json::Json;
use crate::domain::lease::{Lease, LeaseState};
use crate::domain::run::RunStatus;
use crate::domain::system_event;
use crate::domain::task::Task;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::runs::Standing;
use crate::store::{Signal, Tx, attempts, events, runs, tasks};

/// The heartbeats of one call.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// One heartbeat for each lease.
    pub beats: Vec<Beat>,
    /// The time that the leases live from now. None: the duration that the claim asked for.
    pub duration: Option<Duration>,
}

/// A heartbeat for one lease.
#[derive(Debug, Clone)]
pub struct Beat {
    /// The lease token.
    pub token: String,
    /// The progress that the holder reports. None keeps the last report.
    pub progress: Option<Json>,
}

/// The state of a lease after a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatResult {
    /// The state, which tells the holder whether to go on.
    pub state: LeaseState,
    /// When the lease expires. None: it is lost.
    pub expire_time: Option<Timestamp>,
}

const LOST: BeatResult = BeatResult { state: LeaseState::Lost, expire_time: None };

/// Extends leases, or resumes expired ones.
pub fn heartbeat(tx: &mut dyn Tx, heartbeat: &Heartbeat, overlaps: &Overlaps) -> Result<Vec<BeatResult>> {
    heartbeat.beats.iter().map(|beat| extend(tx, beat, heartbeat.duration, overlaps)).collect()
}

fn extend(tx: &mut dyn Tx, beat: &Beat, duration: Option<Duration>, overlaps: &Overlaps) -> Result<BeatResult> {
    let Some(task) = tasks::by_lease(tx, &beat.token)? else { return Ok(LOST) };
    let Some(lease) = task.lease.clone() else { return Ok(LOST) };
    let run = runs::standing(tx, task.run_key)?;
    let expire_time = extended_to(&run, tx.now(), duration.unwrap_or(lease.duration));
    if task.is_held() {
        tasks::extend(tx, task.key, expire_time)?;
    } else if obstacle::is_claimable(tx, &task, run.status, overlaps)? {
        resume(tx, &task, Lease { expire_time, ..lease })?;
    } else {
        return Ok(LOST);
    }
    if let Some(progress) = &beat.progress {
        attempts::note_progress(tx, &task, progress)?;
    }
    tx.signal(Signal::Due(expire_time));
    let state = match run.status {
        RunStatus::Cancelling => LeaseState::CancelRequested,
        RunStatus::Paused => LeaseState::PauseRequested,
        _ => LeaseState::Extended,
    };
    Ok(BeatResult { state, expire_time: Some(expire_time) })
}

/// Returns when an extended lease expires. While the run is being cancelled, no lease outlives the grace.
fn extended_to(run: &Standing, now: Timestamp, duration: Duration) -> Timestamp {
    let wanted = now.plus(duration);
    run.grace_end_time.map_or(wanted, |end| end.min(wanted))
}

/// Gives the task back to the late holder of an expired lease.
fn resume(tx: &mut dyn Tx, task: &Task, lease: Lease) -> Result<()> {
    let (_, agent_id) = attempts::of_token(tx, task.key, &lease.token)?.unzip();
    let next = task.resumed(agent_id.flatten(), lease, tx.now());
    tasks::save(tx, &next)?;
    attempts::resume(tx, &next)?;
    events::append(tx, next.run_key, &system_event::lease_resumed(&next)).map(drop)
}

/// Takes back a task whose lease had expired at `read_at`. Returns the task as it was before, or None if it has changed
/// since `read_at`: its holder has sent a heartbeat, say, or has completed it.
pub fn expire(tx: &mut dyn Tx, task_key: Key, read_at: Timestamp) -> Result<Option<Task>> {
    let Some(task) = tasks::find_by_key(tx, task_key)? else { return Ok(None) };
    if !task.is_held() {
        return Ok(None);
    }
    let run_status = runs::standing(tx, task.run_key)?.status;
    let next = task.expired(run_status, tx.now());
    if !tasks::expire(tx, &next, read_at)? {
        return Ok(None);
    }
    attempts::interrupt(tx, &task, AttemptStatus::LeaseExpired)?;
    events::append(tx, task.run_key, &system_event::lease_expired(&task, &next))?;
    task::signal_moved(tx, &task, &next)?;
    // If the task is abandoned now, no pending task depends on it: the cancellation has abandoned all pending tasks.
    if run_status == RunStatus::Cancelling {
        cancel::finish_if_idle(tx, task.run_key)?;
    }
    Ok(Some(task))
}
