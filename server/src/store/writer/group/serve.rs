//! This module serves the writer's queue: it commits one group after the other, does the work for which no call waits, and
//! reports whether the store can write.

use std::iter::empty;
use std::time::{Duration, Instant};

use super::super::checkpoints::IDLE;
use super::super::job::Job;
use super::{Failure, GroupCommitter, fail_all, is_store_error};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::queue::{Queue, Waited};
use crate::store::session::WriteSession;
use crate::store::state::StoreFailure;

/// The time at which a step of the writer has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepBegin {
    time: Timestamp,
    uptime: Duration,
}

impl<S: WriteSession> GroupCommitter<S> {
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

    pub(super) fn begin_step(&self) -> StepBegin {
        StepBegin { time: self.clock.now(), uptime: self.clock.uptime() }
    }

    /// Reports a stall if a step took so long that a lease could end before a heartbeat was stored.
    pub(super) fn end_step(&mut self, begun: StepBegin) {
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
        let begun = self.begin_step();
        let maintained = self.try_to_begin().and_then(|()| self.session.maintain());
        self.record_reachability(maintained.as_ref().err(), begun);
        match maintained {
            Ok(true) => Ok(Duration::ZERO),
            Err(failed) if failed.is_store_failure() => Err(failed),
            // The work failed because the disk is full, or because another program has locked the database. Try again
            // later.
            Ok(false) | Err(_) => Ok(self.checkpoints.pause(&mut self.session)),
        }
    }

    /// If the last transaction could not begin, tries whether a transaction can begin now.
    fn try_to_begin(&mut self) -> Result<()> {
        if !self.is_unreachable {
            return Ok(());
        }
        let begun = self.session.begin(empty());
        self.session.rollback();
        begun.map(drop)
    }

    /// Reports whether the database can be written. While it can't be written, no heartbeat can be stored, so this time
    /// counts as a stall.
    fn record_reachability(&mut self, error: Option<&Error>, begun: StepBegin) {
        let is_unreachable = error == Some(&Error::StoreBusy);
        if is_unreachable {
            self.state.report_stall(begun.time);
            self.state.report_unreachable();
        } else if self.is_unreachable {
            self.state.report_reachable();
        }
        self.is_unreachable = is_unreachable;
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
        let begun = self.begin_step();
        let ran = self.run_group(group);
        let error = if let Err(Failure::Writer(error)) = &ran { Some(error) } else { None };
        self.record_reachability(error, begun);
        match ran {
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
            Some(_) => self.state.report_full(begun.time),
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
}
