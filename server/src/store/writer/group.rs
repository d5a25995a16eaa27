//! Group commit: runs the bodies of many calls in one transaction, so that they share one sync to the disk.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::LARGEST_GROUP;
use super::job::Job;
use crate::error::{Error, Result};
use crate::store::Signal;
use crate::store::notifications::Notifications;
use crate::store::queue::Queue;
use crate::store::session::{CommitOutcome, Counted, WriteSession};

/// How often a group is run again at most because a caller has disconnected meanwhile.
const MAX_RERUNS: usize = 2;

/// A commit that takes this long is logged: the disk is too slow for the load, or another program uses it.
const SLOW_COMMIT: Duration = Duration::from_secs(1);

/// Why a group was not committed.
enum Failure {
    /// The database rolled back the whole transaction because of the statement of a body (on a full disk, say).
    RolledBack,
    /// A caller has disconnected after its body had run.
    Unwanted,
    /// A body failed after it had written something, and there is no savepoint to roll back to.
    HalfDone,
    /// A statement of the writer itself failed, such as BEGIN or COMMIT.
    Writer(Error),
    /// The outcome of the commit is unknown. These signals belong to it.
    Unknown(Vec<Signal>),
}

/// How a group is run.
#[derive(Debug, Clone, Copy)]
struct Pass {
    /// Set a savepoint before each body, so that a body that fails after writing can be rolled back alone. Without
    /// savepoints such a body rolls back the group. Bodies rarely fail so, and savepoints for all took a third of this
    /// thread's time, most of it for copies of pages.
    with_savepoints: bool,
    /// How often the group may still be run again because a caller has disconnected.
    reruns: usize,
}

impl Pass {
    const FIRST: Self = Self { with_savepoints: false, reruns: MAX_RERUNS };
    /// For a group of one: its rollback concerns no other body.
    const ALONE: Self = Self { with_savepoints: false, reruns: 0 };
}

/// The effects of all bodies of a group.
#[derive(Default)]
struct Effects {
    /// The transaction has changed rows or taken numbers.
    has_written: bool,
    signals: Vec<Signal>,
}

/// The state of the writer thread.
pub(super) struct Groups<S> {
    session: S,
    /// The last numbers taken, in the open transaction or before.
    counted: Counted,
    notifications: Notifications,
    /// Takes the groups whose calls can be answered.
    answers: mpsc::UnboundedSender<Vec<Box<dyn Job>>>,
}

impl<S: WriteSession> Groups<S> {
    pub fn new(
        session: S,
        counted: Counted,
        notifications: Notifications,
        answers: mpsc::UnboundedSender<Vec<Box<dyn Job>>>,
    ) -> Self {
        Self { session, counted, notifications, answers }
    }

    /// Commits what is queued, group by group, until the queue is closed and empty.
    pub fn serve(mut self, queue: &Queue<Box<dyn Job>>) {
        while queue.wait().is_some() {
            // Callers that are about to queue a call can do so first. Under load this saves a third of the commits;
            // without load it does not wait.
            std::thread::yield_now();
            self.commit(queue.take(LARGEST_GROUP));
        }
    }

    fn commit(&mut self, mut group: Vec<Box<dyn Job>>) {
        let Some(committed) = self.run_until_settled(&mut group) else { return };
        match committed {
            Ok(()) => {}
            // The database is locked for every body: running them one by one would only wait again.
            Err(Failure::Writer(Error::StoreBusy)) => fail_all(&mut group, &Error::StoreBusy),
            Err(Failure::Unknown(signals)) => self.settle_unknown(&mut group, &signals),
            Err(_) => self.run_one_by_one(&mut group),
        }
        if let Err(unsent) = self.answers.send(group) {
            // The runtime that opened the store has ended, and the callers wait in another one.
            unsent.0.into_iter().for_each(Job::answer);
        }
    }

    /// Runs a group again as long as that can help. Returns None if no caller is left.
    fn run_until_settled(&mut self, group: &mut Vec<Box<dyn Job>>) -> Option<Result<(), Failure>> {
        let mut pass = Pass::FIRST;
        loop {
            // If a caller disconnects before the commit, its body leaves nothing behind. The last pass no longer checks:
            // otherwise callers that keep disconnecting could delay the others forever.
            group.retain(|job| job.is_wanted());
            if group.is_empty() {
                return None;
            }
            match self.run_together(group, pass) {
                Err(Failure::Unwanted) => pass.reruns -= 1,
                Err(Failure::HalfDone) if !pass.with_savepoints => pass.with_savepoints = true,
                settled => return Some(settled),
            }
        }
    }

    /// Gives each body a transaction of its own, so that only the body at fault fails.
    fn run_one_by_one(&mut self, group: &mut [Box<dyn Job>]) {
        for job in group.chunks_mut(1) {
            match self.run_together(job, Pass::ALONE) {
                Err(Failure::Writer(error)) => fail_all(job, &error),
                Err(Failure::Unknown(signals)) => self.settle_unknown(job, &signals),
                // The job has its result: the body's own, or the error that `run_body` has set.
                Ok(()) | Err(Failure::RolledBack | Failure::Unwanted | Failure::HalfDone) => {}
            }
        }
    }

    /// Answers that the store is busy: a caller that repeats its call with the same request_id learns what became of it.
    /// Waiters and watchers are notified as if the commit had succeeded, for they read the store before they act.
    fn settle_unknown(&mut self, group: &mut [Box<dyn Job>], signals: &[Signal]) {
        tracing::error!("the outcome of a commit is unknown");
        fail_all(group, &Error::StoreBusy);
        self.notifications.signal(signals);
        if let Ok(committed) = self.session.begin() {
            self.notifications.log_reaches(committed.position);
        }
        self.session.rollback();
    }

    fn run_together(&mut self, jobs: &mut [Box<dyn Job>], pass: Pass) -> Result<(), Failure> {
        match self.try_together(jobs, pass) {
            Ok(signals) => {
                self.notifications.signal(&signals);
                self.notifications.log_reaches(self.counted.position);
                Ok(())
            }
            Err(failure) => {
                self.session.rollback();
                Err(failure)
            }
        }
    }

    /// Runs the bodies in one transaction and commits it. Returns the signals of the bodies.
    fn try_together(&mut self, jobs: &mut [Box<dyn Job>], pass: Pass) -> Result<Vec<Signal>, Failure> {
        let committed = self.session.begin().map_err(Failure::Writer)?;
        // Positions that were rolled back are taken again, for the log must have no gap. Keys are not: caches in memory
        // outlive a rollback and hold keys.
        self.counted = Counted { position: committed.position, key: self.counted.key.max(committed.key) };
        let mut effects = Effects::default();
        for job in jobs.iter_mut() {
            if pass.with_savepoints {
                self.run_in_savepoint(job.as_mut(), &mut effects)?;
            } else if !self.run_body(job.as_mut(), &mut effects)? {
                return Err(Failure::HalfDone);
            }
        }
        if pass.reruns > 0 && jobs.iter().any(|job| job.has_succeeded() && !job.is_wanted()) {
            return Err(Failure::Unwanted);
        }
        let begun = Instant::now();
        let outcome = self.session.commit(self.counted, effects.has_written);
        let duration = begun.elapsed();
        if duration >= SLOW_COMMIT {
            tracing::warn!(calls = jobs.len(), duration_ms = duration.as_millis(), "slow commit");
        }
        match outcome {
            CommitOutcome::Committed => Ok(effects.signals),
            CommitOutcome::Failed(error) => Err(Failure::Writer(error)),
            CommitOutcome::Unknown => Err(Failure::Unknown(effects.signals)),
        }
    }

    fn run_in_savepoint(&mut self, job: &mut dyn Job, effects: &mut Effects) -> Result<(), Failure> {
        self.session.set_savepoint().map_err(Failure::Writer)?;
        let keeps_changes = self.run_body(job, effects)?;
        self.session.end_savepoint(keeps_changes).map_err(Failure::Writer)
    }

    /// Runs a body. Returns false if the body has failed and left changes that must be rolled back.
    fn run_body(&mut self, job: &mut dyn Job, effects: &mut Effects) -> Result<bool, Failure> {
        let before = self.counted;
        let ran = self.session.run(before, |tx| job.run(tx));
        self.counted.key = ran.counted.key;
        // Whatever the body returns, all changes of the group are gone.
        if !self.session.is_whole() {
            if ran.is_done {
                job.fail(Error::internal(
                    "the database rolled back the transaction, but the body of the call ignored the error",
                ));
            }
            return Err(Failure::RolledBack);
        }
        if !ran.is_done {
            return Ok(!ran.has_written);
        }
        self.counted.position = ran.counted.position;
        effects.has_written |= ran.has_written || ran.counted != before;
        effects.signals.extend(ran.signals);
        Ok(true)
    }
}

fn fail_all(jobs: &mut [Box<dyn Job>], error: &Error) {
    for job in jobs {
        job.fail(error.clone());
    }
}
