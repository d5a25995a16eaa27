//! This module commits calls in groups. The transaction bodies of up to 128 calls run in one transaction and share one
//! disk sync.

mod serve;

use std::iter::empty;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::checkpoints::CheckpointScheduler;
use super::group_size::{BodyTimes, GroupSize};
use super::job::Job;
use super::stalls::Stalls;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::notifications::Notifications;
use crate::store::session::{CommitOutcome, LastAssigned, WriteSession};
use crate::store::state::StateReporter;
use crate::store::{ClaimVersion, Signal};

/// Minimum duration of a commit that is logged as a warning. A slow commit means that the disk is too slow for the load
/// or that another program uses the disk.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

/// Specifies why a group was not committed.
enum Failure {
    /// The database rolled back the whole transaction after a statement of a transaction body failed.
    RolledBack,
    /// A transaction body failed after writing, and no savepoint was set before the body.
    FailedAfterWrite,
    /// A statement of the writer itself failed, such as BEGIN or COMMIT; or a statement of a transaction body failed
    /// with an error that concerns the whole store, such as a full disk.
    Writer(Error),
    /// The connection to the database was lost, and the group changed nothing.
    Disconnected,
    /// The outcome of the commit is unknown. The value holds the signals of the group.
    Unknown(Vec<Signal>),
}

/// Maximum time in which the writer tries a group again after the connection to the database was lost. A standby is
/// usually promoted within this time.
const RECONNECT_TIME: Duration = Duration::from_secs(2);

/// Time between two attempts to run a group on a new connection.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// Specifies whether the writer sets a savepoint before each transaction body. With savepoints, the writer can roll
/// back a single body that fails after writing. Without savepoints, the writer must roll back the whole group. The
/// first execution sets no savepoints, because bodies rarely fail after writing and savepoints cost a third of the
/// writer thread's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Savepoints {
    Off,
    On,
}

/// Holds the effects of all transaction bodies of a group.
#[derive(Default)]
struct Effects {
    /// If the transaction has changed rows or has assigned numbers, the value is true.
    has_written: bool,
    signals: Vec<Signal>,
    times: BodyTimes,
}

/// Holds the state of the writer thread.
pub(super) struct GroupCommitter<S> {
    session: S,
    /// Last assigned numbers, including those that the open transaction has assigned.
    last_assigned: LastAssigned,
    notifications: Arc<Notifications>,
    size: GroupSize,
    checkpoints: CheckpointScheduler,
    stalls: Stalls,
    /// Time at which `maintain` ran last.
    maintained_at: Instant,
    /// Whether the last transaction could not begin.
    is_unreachable: bool,
    clock: Arc<dyn Clock>,
    state: StateReporter,
    /// Channel that sends finished groups to `answer_all`, which answers the calls.
    answers: mpsc::UnboundedSender<Vec<Box<dyn Job>>>,
}

impl<S: WriteSession> GroupCommitter<S> {
    pub fn new(
        session: S,
        last_assigned: LastAssigned,
        notifications: Arc<Notifications>,
        clock: Arc<dyn Clock>,
        state: StateReporter,
        answers: mpsc::UnboundedSender<Vec<Box<dyn Job>>>,
    ) -> Self {
        Self {
            session,
            last_assigned,
            notifications,
            size: GroupSize::default(),
            checkpoints: CheckpointScheduler::default(),
            stalls: Stalls::default(),
            maintained_at: Instant::now(),
            is_unreachable: false,
            clock,
            state,
            answers,
        }
    }

    /// Executes a group. If a transaction body fails after writing, the function executes the group again with
    /// savepoints, so that only the changes of the failing body are rolled back. Returns the result of the last
    /// execution. If the connection is lost, executes the group again on a new connection, but gives up after
    /// `RECONNECT_TIME` (2 s), and at once if the database was unreachable before.
    fn run_group(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let ran = match self.run_together(group, Savepoints::Off) {
                Err(Failure::FailedAfterWrite) => self.run_together(group, Savepoints::On),
                settled => settled,
            };
            if !matches!(ran, Err(Failure::Disconnected)) {
                return ran;
            }
            if self.is_unreachable || begun.elapsed() >= RECONNECT_TIME {
                return Err(Failure::Writer(Error::StoreBusy));
            }
            std::thread::sleep(RECONNECT_INTERVAL);
        }
    }

    /// Runs each transaction body in a separate transaction, so that a failing body does not affect the other calls. If
    /// a body fails with an error that concerns the whole store, the remaining calls fail with this error too.
    fn run_one_by_one(&mut self, group: &mut [Box<dyn Job>]) {
        for index in 0..group.len() {
            let job = &mut group[index..=index];
            match self.run_together(job, Savepoints::Off) {
                Err(Failure::Writer(error)) if is_store_error(&error) => return fail_all(&mut group[index..], &error),
                Err(Failure::Disconnected) => return fail_all(&mut group[index..], &Error::StoreBusy),
                Err(Failure::Writer(error)) => fail_all(job, &error),
                Err(Failure::Unknown(signals)) => self.fail_after_unknown_commit(job, &signals),
                // The job already holds the result of the transaction body, or the error that `run_body` has set.
                Ok(()) | Err(Failure::RolledBack | Failure::FailedAfterWrite) => {}
            }
        }
    }

    /// Fails the calls of a group with `StoreBusy` after a commit with an unknown outcome. If a caller retries a call
    /// with an unchanged request_id, the caller learns the outcome. Waiters and watchers are notified as after a
    /// successful commit, because every waiter and watcher reads the store before acting.
    fn fail_after_unknown_commit(&mut self, group: &mut [Box<dyn Job>], signals: &[Signal]) {
        tracing::error!("the outcome of a commit is unknown");
        fail_all(group, &Error::StoreBusy);
        self.publish_claim_version(self.last_assigned.claim_version);
        self.notifications.signal(signals);
        if let Ok(committed) = self.session.begin(empty()) {
            self.notifications.notify_growth(committed.position);
        }
        self.session.rollback();
    }

    fn run_together(&mut self, jobs: &mut [Box<dyn Job>], savepoints: Savepoints) -> Result<(), Failure> {
        match self.try_together(jobs, savepoints) {
            Ok(signals) => {
                self.publish_claim_version(self.last_assigned.claim_version);
                self.notifications.signal(&signals);
                self.notifications.notify_growth(self.last_assigned.position);
                Ok(())
            }
            Err(failure) => {
                let is_connected = self.session.is_connected();
                self.session.rollback();
                // A claim of the group may have cached that the claim found no task, because of a change that is now
                // rolled back. The new number of rollbacks makes the cached result invalid.
                self.publish_claim_version(self.notifications.claim_version().number);
                match failure {
                    Failure::Unknown(_) => Err(failure),
                    _ if !is_connected => Err(Failure::Disconnected),
                    _ => Err(failure),
                }
            }
        }
    }

    fn publish_claim_version(&self, number: i64) {
        let rollbacks = self.session.transaction().rollbacks;
        self.notifications.set_claim_version(ClaimVersion { number, rollbacks });
    }

    /// Runs the transaction bodies of `jobs` in one transaction and commits the transaction. Returns the signals of the
    /// bodies. Fails with the reason why the group was not committed.
    fn try_together(&mut self, jobs: &mut [Box<dyn Job>], savepoints: Savepoints) -> Result<Vec<Signal>, Failure> {
        let begun = self.begin_step();
        let committed = self.session.begin(jobs.iter().map(|job| job.ahead())).map_err(Failure::Writer)?;
        // Report a stall before the transaction bodies run, because one of them can be the expiry of a lease.
        self.end_step(begun);
        // Assign rolled-back numbers again: the log must have no gap, and another server may have assigned the numbers
        // since. `Transaction` tells caches in memory which numbers are committed.
        self.last_assigned = committed;
        let mut effects = Effects::default();
        for job in jobs.iter_mut() {
            // Skip the job of a disconnected caller. A claim would lease a task to an agent that never learns the lease
            // token. A caller that disconnects after this check may have its changes committed.
            if !job.has_waiting_caller() {
                continue;
            }
            let body_begun = Instant::now();
            if savepoints == Savepoints::On {
                self.run_in_savepoint(job.as_mut(), &mut effects)?;
            } else if !self.run_body(job.as_mut(), &mut effects)? {
                return Err(Failure::FailedAfterWrite);
            }
            effects.times.add(body_begun.elapsed());
        }
        match self.commit_timed(jobs.len(), &effects) {
            CommitOutcome::Committed => Ok(effects.signals),
            CommitOutcome::Failed(error) => Err(Failure::Writer(error)),
            CommitOutcome::Disconnected => Err(Failure::Disconnected),
            CommitOutcome::Unknown => Err(Failure::Unknown(effects.signals)),
        }
    }

    /// Commits the transaction of a group of `calls` calls.
    fn commit_timed(&mut self, calls: usize, effects: &Effects) -> CommitOutcome {
        let commit_begun = Instant::now();
        let outcome = self.session.commit(self.last_assigned, effects.has_written, &effects.signals);
        let duration = commit_begun.elapsed();
        if effects.has_written {
            self.size.record(&effects.times, duration);
        }
        if duration >= SLOW_COMMIT {
            tracing::warn!(calls, duration_ms = duration.as_millis(), "slow commit");
        }
        outcome
    }

    fn run_in_savepoint(&mut self, job: &mut dyn Job, effects: &mut Effects) -> Result<(), Failure> {
        self.session.set_savepoint().map_err(Failure::Writer)?;
        let keeps_changes = self.run_body(job, effects)?;
        self.session.end_savepoint(keeps_changes).map_err(Failure::Writer)
    }

    /// Runs a transaction body. Returns false if the body has failed and the changes of the body must be rolled back.
    /// Fails if the database has rolled back the transaction, and if the disk is full or the database has failed.
    fn run_body(&mut self, job: &mut dyn Job, effects: &mut Effects) -> Result<bool, Failure> {
        let before = self.last_assigned;
        let body_effects = self.session.run(before, |tx| job.run(tx));
        self.last_assigned.key = body_effects.last_assigned.key;
        self.last_assigned.claim_version = body_effects.last_assigned.claim_version;
        if let Some(error) = job.store_error() {
            return Err(Failure::Writer(error));
        }
        // The database has rolled back all changes of the group, so the transaction body must not report success.
        if !self.session.can_commit() {
            if body_effects.is_done {
                job.fail(Error::internal(
                    "the database rolled back the transaction, but the transaction's code ignored the error: report the bug",
                ));
            }
            return Err(Failure::RolledBack);
        }
        if !body_effects.is_done {
            return Ok(!body_effects.has_written);
        }
        self.last_assigned.position = body_effects.last_assigned.position;
        effects.has_written |= body_effects.has_written || body_effects.last_assigned != before;
        effects.signals.extend(body_effects.signals);
        Ok(true)
    }
}

/// Returns whether an error concerns the whole store, and not only one call.
fn is_store_error(error: &Error) -> bool {
    *error == Error::StoreFull || error.is_store_failure()
}

fn fail_all(jobs: &mut [Box<dyn Job>], error: &Error) {
    for job in jobs {
        job.fail(error.clone());
    }
}
