//! Leases: signs of life, and what happens without them (C3, C4).

use std::time::Duration;

use super::paths::{HeldPaths, Overlaps};
use super::{cancel, signal_moved};
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

/// A sign of life.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Beat {
    pub token: String,
    /// None keeps what was said before.
    pub progress: Option<Json>,
}

/// How a lease stands after it, and until when it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BeatResult {
    pub state: LeaseState,
    pub expire_time: Option<Timestamp>,
}

const LOST: BeatResult = BeatResult { state: LeaseState::Lost, expire_time: None };

/// Extends a lease, or takes up one that ran out.
pub fn beat(tx: &mut dyn Tx, beat: &Beat, duration: Option<Duration>, overlaps: &Overlaps) -> Result<BeatResult> {
    let Some(task) = tasks::by_lease(tx, &beat.token)? else { return Ok(LOST) };
    let Some(lease) = task.lease.clone() else { return Ok(LOST) };
    let run = runs::standing(tx, task.run_key)?;
    let expire_time = extended(&run, tx.now(), duration.unwrap_or(lease.duration));
    if task.is_held() {
        tasks::extend(tx, task.key, expire_time)?;
    } else if !take_up(tx, &task, Lease { expire_time, ..lease }, &run, overlaps)? {
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

/// Until when a lease lives from now: no further than the grace while the run is being cancelled.
fn extended(run: &Standing, now: Timestamp, duration: Duration) -> Timestamp {
    let wanted = now.plus(duration);
    run.grace_end_time.map_or(wanted, |end| end.min(wanted))
}

/// A late holder goes on, if a claim would be given out now; says whether it does.
fn take_up(tx: &mut dyn Tx, task: &Task, lease: Lease, run: &Standing, overlaps: &Overlaps) -> Result<bool> {
    let now = tx.now();
    if !task.is_ready(now) || !run.status.gives_out_tasks() {
        return Ok(false);
    }
    if !HeldPaths::new(overlaps).leave_free(tx, task.run_key, task.path_set_key)? {
        return Ok(false);
    }
    let (_, agent_id) = attempts::of_token(tx, task.key, &lease.token)?.unzip();
    let next = task.resumed(agent_id.flatten(), lease, now);
    tasks::save(tx, &next)?;
    attempts::resume(tx, &next)?;
    events::append(tx, next.run_key, &system_event::lease_resumed(&next))?;
    Ok(true)
}

/// Takes back a task whose lease had run out when one looked, unless something has happened to it since: its holder
/// was heard of, or has completed it. Says whether it did.
pub fn expire(tx: &mut dyn Tx, task_key: Key, looked_at: Timestamp) -> Result<bool> {
    let Some(task) = tasks::find_by_key(tx, task_key)? else { return Ok(false) };
    if !task.is_held() {
        return Ok(false);
    }
    let run_status = runs::standing(tx, task.run_key)?.status;
    let next = task.expired(run_status, tx.now());
    if !tasks::expire(tx, &next, looked_at)? {
        return Ok(false);
    }
    attempts::cut_off(tx, &task, AttemptStatus::LeaseExpired)?;
    events::append(tx, task.run_key, &system_event::lease_expired(&task, &next))?;
    signal_moved(tx, &task, &next)?;
    // Nothing is pending any more that could depend on it: the cancellation has seen to that.
    if run_status == RunStatus::Cancelling {
        cancel::finish_if_idle(tx, task.run_key)?;
    }
    Ok(true)
}
