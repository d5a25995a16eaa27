//! Claims: giving out a task (C2).

use std::time::Duration;

use super::paths::{HeldPaths, Overlaps};
use crate::domain::attempt::TaskAttempt;
use crate::domain::lease::Lease;
use crate::domain::run::RunStatus;
use crate::domain::system_event;
use crate::domain::task::{Task, covers};
use crate::error::Result;
use crate::store::{Signal, Tx, attempts, events, pending, ready, runs, tasks};

/// Who wants a task, and which.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// None: of any run.
    pub run_id: Option<String>,
    /// Who wants it.
    pub agent_id: String,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// How long it may be silent.
    pub lease_duration: Duration,
}

/// A task given out.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// As it is now.
    pub task: Task,
    /// Of it.
    pub lease: Lease,
    /// The newest attempt before this one.
    pub previous_attempt: Option<TaskAttempt>,
}

/// Gives out the next claimable task, if there is one.
pub fn claim(tx: &mut dyn Tx, wanted: &Wanted, overlaps: &Overlaps) -> Result<Option<Claimed>> {
    let mut held = HeldPaths::new(overlaps);
    let key = match &wanted.run_id {
        None => ready::next_of_all(tx, &wanted.capabilities, &mut held)?,
        Some(id) => {
            let run = runs::get(tx, id)?;
            run.check_takes_work()?;
            if !run.status.gives_out_tasks() {
                return Ok(None);
            }
            ready::next_of_run(tx, run.key, &wanted.capabilities, &mut held)?
        }
    };
    let Some(key) = key else { return Ok(None) };
    let now = tx.now();
    let lease = Lease::begin(tx.new_token(), wanted.lease_duration, now);
    let task = tasks::by_key(tx, key)?.claimed(&wanted.agent_id, lease.clone(), now);
    tasks::save(tx, &task)?;
    let attempt_key = attempts::open(tx, &task)?;
    runs::note_served(tx, task.run_key, attempt_key)?;
    events::append(tx, task.run_key, &system_event::task_claimed(&task))?;
    tx.signal(Signal::Due(lease.expire_time));
    let previous_attempt = attempts::newest_before(tx, task.key, attempt_key)?;
    Ok(Some(Claimed { task, lease, previous_attempt }))
}

/// What keeps pending tasks from being claimed, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The proto has them.
pub struct Unclaimable {
    pub pending: i32,
    pub waiting_on_dependency: i32,
    pub waiting_on_time: i32,
    pub waiting_on_paths: i32,
    pub missing_capability: i32,
    pub run_paused: i32,
}

/// Counts what is in the way of a claim.
pub fn count_obstacles(tx: &mut dyn Tx, wanted: &Wanted, overlaps: &Overlaps) -> Result<Unclaimable> {
    let run_key = wanted.run_id.as_deref().map(|id| runs::key(tx, id)).transpose()?;
    let (mut held, now) = (HeldPaths::new(overlaps), tx.now());
    let mut counted = Unclaimable::default();
    for task in pending::first(tx, run_key)? {
        let in_time = task.not_before_time.is_none_or(|time| time <= now);
        counted.pending += 1;
        counted.waiting_on_dependency += i32::from(task.open_dependencies > 0);
        counted.waiting_on_time += i32::from(!in_time);
        counted.waiting_on_paths += i32::from(!held.leave_free(tx, task.run_key, task.path_set_key)?);
        counted.missing_capability += i32::from(!covers(&wanted.capabilities, &task.required_capabilities));
        counted.run_paused += i32::from(task.run_status == RunStatus::Paused);
    }
    Ok(counted)
}
