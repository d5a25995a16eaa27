//! This module commits calls in groups. The transaction bodies of up to 128 calls run in one transaction and share one
//! disk sync.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::checkpoints::{CheckpointScheduler, IDLE};
use super::group_size::{BodyTimes, GroupSize};
use super::job::Job;
use super::stalls::Stalls;
use crate::clock::Clock;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::notifications::Notifications;
use crate::store::queue::{Queue, Waited};
use crate::store::session::{CommitOutcome, LastAssigned, WriteSession};
use crate::store::state::{StateReporter, StoreFailure};
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
    /// The outcome of the commit is unknown. The value holds the signals of the group.
    Unknown(Vec<Signal>),
}

/// Specifies whether the writer sets a savepoint before each transaction body. With savepoints, the writer can roll
/// back a single body that fails after writing. Without savepoints, the writer must roll back the whole group. The
/// first execution sets no savepoints, because bodies rarely fail after writing and savepoints cost a third of the
/// writer thread's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Savepoints {
    Off,
    On,
}

/// The time at which a step of the writer has begun.
#[derive(Debug, Clone, Copy)]
struct StepBegin {
    time: Timestamp,
    uptime: Duration,
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
            clock,
            state,
            answers,
        }
    }

    /// Commits the queued calls in groups until the queue is closed and empty, or until the store fails.
    pub fn serve(mut self, queue: &Queue<Box<dyn Job>>) {
        let mut pause = IDLE;
        loop {
            let waited = queue.wait(pause);
            let begun = self.begin_step();
            let served = match waited {
                Waited::Filled => self.serve_group(queue),
                Waited::Idle => self.maintain(),
                Waited::Closed => return,
            };
            self.end_step(begun);
            match served {
                Ok(next_pause) => pause = next_pause,
                Err(cause) => return self.state.report_failure(StoreFailure::Database(cause.to_string())),
            }
        }
    }

    fn begin_step(&self) -> StepBegin {
        StepBegin { time: self.clock.now(), uptime: self.clock.uptime() }
    }

    /// Reports a stall if a step took so long that a lease could end before a heartbeat was stored.
    fn end_step(&mut self, begun: StepBegin) {
        if self.stalls.count(begun.uptime, self.clock.as_ref()) {
            self.state.report_stall(begun.time);
        }
    }

    /// Commits the next group, and runs a checkpoint if one is due. If calls never stop, also runs `maintain` once in
    /// `IDLE`. Returns the time after which `maintain` must run if no call is queued before. Fails if the store has
    /// failed.
    fn serve_group(&mut self, queue: &Queue<Box<dyn Job>>) -> Result<Duration> {
        // Yield first, so that callers that are about to queue a call can join the next group. Under load, yielding
        // saves a third of the commits. Without load, yielding causes no delay.
        std::thread::yield_now();
        let group = queue.take(self.size.limit());
        match self.state.full_since() {
            None => self.commit(group)?,
            Some(since) => self.recover(group, since)?,
        }
        if queue.len() == 0 && self.maintained_at.elapsed() >= IDLE {
            return self.maintain();
        }
        self.checkpoints.run_if_due(&mut self.session, queue.len() > 0)?;
        Ok(self.checkpoints.pause(&mut self.session))
    }

    /// Does the work for which no call waits. Returns the time after which this function must run again if no call is
    /// queued before. Fails if the store has failed.
    fn maintain(&mut self) -> Result<Duration> {
        self.maintained_at = Instant::now();
        self.checkpoints.run_if_due(&mut self.session, false)?;
        match self.session.maintain() {
            Ok(true) => Ok(Duration::ZERO),
            Err(failed) if failed.is_store_failure() => Err(failed),
            // The work failed because the disk is full, or because another program has locked the database. Try again
            // later.
            Ok(false) | Err(_) => Ok(self.checkpoints.pause(&mut self.session)),
        }
    }

    /// Commits a group and answers its calls. Fails if the store has failed.
    fn commit(&mut self, mut group: Vec<Box<dyn Job>>) -> Result<()> {
        let committed = self.commit_unanswered(&mut group);
        self.answer(group);
        committed
    }

    /// Refuses the calls of a group, because the disk has been full since `since`. If the group contains the
    /// transaction that extends the leases, tries this transaction. If the transaction succeeds, the time without
    /// writes has ended. No other transaction may be the first, because it could expire a lease whose holder could send
    /// no heartbeat. Fails if the store has failed.
    fn recover(&mut self, group: Vec<Box<dyn Job>>, since: Timestamp) -> Result<()> {
        let (mut recovery, mut refused): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|job| job.recovers_since().is_some_and(|start| start <= since));
        fail_all(&mut refused, &Error::StoreFull);
        self.answer(refused);
        if recovery.is_empty() {
            return Ok(());
        }
        let committed = self.commit_unanswered(&mut recovery);
        // Report the end before the answer, because the sweeper would otherwise extend the leases a second time.
        if recovery.iter().any(|job| job.has_succeeded()) {
            self.state.report_writable();
        }
        self.answer(recovery);
        committed
    }

    /// Commits a group and stores the results in the jobs. If the disk is full, reports the start of the time without
    /// writes. Fails if the store has failed.
    fn commit_unanswered(&mut self, group: &mut [Box<dyn Job>]) -> Result<()> {
        let begun = self.clock.now();
        match self.run_group(group) {
            Ok(()) => {}
            // Fail all calls of the group, because the failure concerns each of them. If the writer ran the transaction
            // bodies one by one, each body would wait for the lock of the other program, or fail, again.
            Err(Failure::Writer(error)) if error == Error::StoreBusy || is_store_error(&error) => {
                fail_all(group, &error);
            }
            Err(Failure::Unknown(signals)) => self.fail_after_unknown_commit(group, &signals),
            Err(_) => self.run_one_by_one(group),
        }
        let recovered = group.iter().filter(|job| job.has_succeeded()).filter_map(|job| job.recovers_since()).min();
        if let Some(live_at) = recovered {
            self.state.report_recovery(live_at);
        }
        match group.iter().find_map(|job| job.store_error()) {
            Some(failed) if failed.is_store_failure() => return Err(failed),
            Some(_) => self.state.report_full(begun),
            None => {}
        }
        Ok(())
    }

    fn answer(&self, group: Vec<Box<dyn Job>>) {
        if let Err(unsent) = self.answers.send(group) {
            // Answer the calls here, because `answer_all` has ended together with the runtime that opened the store.
            // Callers in another runtime still wait for responses.
            unsent.0.into_iter().for_each(Job::answer);
        }
    }

    /// Executes a group. If a transaction body fails after writing, the function executes the group again with
    /// savepoints, so that only the changes of the failing body are rolled back. Returns the result of the last
    /// execution.
    fn run_group(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        match self.run_together(group, Savepoints::Off) {
            Err(Failure::FailedAfterWrite) => self.run_together(group, Savepoints::On),
            settled => settled,
        }
    }

    /// Runs each transaction body in a separate transaction, so that a failing body does not affect the other calls. If
    /// a body fails with an error that concerns the whole store, the remaining calls fail with this error too.
    fn run_one_by_one(&mut self, group: &mut [Box<dyn Job>]) {
        for index in 0..group.len() {
            let job = &mut group[index..=index];
            match self.run_together(job, Savepoints::Off) {
                Err(Failure::Writer(error)) if is_store_error(&error) => return fail_all(&mut group[index..], &error),
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
        if let Ok(committed) = self.session.begin() {
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
                self.session.rollback();
                // A claim of the group may have cached that the claim found no task, because of a change that is now
                // rolled back. The new number of rollbacks makes the cached result invalid.
                self.publish_claim_version(self.notifications.claim_version().number);
                Err(failure)
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
        let committed = self.session.begin().map_err(|error| {
            if error == Error::StoreBusy {
                self.state.report_stall(begun.time);
            }
            Failure::Writer(error)
        })?;
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
            CommitOutcome::Unknown => Err(Failure::Unknown(effects.signals)),
        }
    }

    /// Commits the transaction of a group of `calls` calls.
    fn commit_timed(&mut self, calls: usize, effects: &Effects) -> CommitOutcome {
        let commit_begun = Instant::now();
        let outcome = self.session.commit(self.last_assigned, effects.has_written);
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
                    "SQLite rolled back the transaction, but the transaction's code ignored the error: report the bug",
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
