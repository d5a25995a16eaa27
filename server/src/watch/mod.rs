//! One watcher of the log: everything after its cursor, then live, without a gap (E1 to E7).
//!
//! It registers for the wake-up first, then reads pages from the store until there is nothing more, then waits. The
//! wake-up says only that the log has grown. Live it takes what is new from the tail, and from the store again when it
//! has fallen behind that. It takes the next page when the one before was taken by its reader, so a slow one costs one
//! page of memory and holds nobody up.

mod growth;
mod tail;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::growth::GrowthWaiter;
use self::tail::Part;
pub use self::tail::{SIZE as TAIL_SIZE, Shown, Tail};
use crate::actions::log::{self, LogRead, RunState};
use crate::domain::event::EventFilter;
use crate::error::{Error, Result};
use crate::store::events::{Scan, ScanEnd};
use crate::store::{Limit, Store, compaction};

/// What one watcher holds in memory at most, but for one larger event.
const PAGE: Limit = Limit { rows: 500, bytes: 128 * 1024 };

/// What a caller wants to see.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// None: all runs.
    pub run_id: Option<String>,
    /// Which events.
    pub filter: EventFilter,
    /// Where to begin.
    pub start: Start,
    /// A bookmark at least this often while nothing else is sent.
    pub bookmark_interval: Duration,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event kept.
    Beginning,
    /// After this position.
    After(i64),
    /// With what is committed from now on.
    Now,
}

impl Start {
    /// What must not have lost anything.
    fn cursor(self) -> Option<i64> {
        match self {
            Self::After(position) => Some(position),
            Self::Beginning | Self::Now => None,
        }
    }
}

/// What a watcher is sent. Each has a position that is a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message<T> {
    Event(T),
    CaughtUp(i64),
    Bookmark(i64),
    End(EndReason, i64),
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EndReason {
    RunEnded,
    RunDeleted,
    Draining,
}

/// A watcher that has begun.
pub struct Watch<T> {
    store: Store,
    tail: Arc<Tail<T>>,
    waiter: GrowthWaiter,
    draining: watch::Receiver<bool>,
    run_id: Option<String>,
    scan: Scan,
    /// From the beginning nothing can have been missed before the first message.
    has_cursor: bool,
    /// The newest position that the store has shown it.
    seen: i64,
    bookmark_interval: Duration,
    /// Found and not yet taken.
    queue: VecDeque<Message<T>>,
    progress: Progress,
    /// Only the store knows whether its run has ended.
    run_may_have_ended: bool,
    last_sent: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// There may be more stored.
    CatchingUp,
    /// `caught_up` was sent.
    Live,
    /// The last message is in the queue.
    Ended,
    /// The last message is in the queue, and then an error.
    Drained,
}

impl<T: Shown> Watch<T> {
    /// Checks the request and begins. Everything that can be refused is refused here, before any message.
    pub async fn begin(
        store: &Store,
        tail: &Arc<Tail<T>>,
        draining: watch::Receiver<bool>,
        request: WatchRequest,
    ) -> Result<Self> {
        let WatchRequest { run_id, filter, start, bookmark_interval } = request;
        let waiter = tail.register(run_id.clone());
        let (scope, task_id) = (run_id.clone(), filter.task_id.clone());
        let (run_key, newest, after) = store
            .read(move |tx| {
                let run_key = log::check_scope(tx, scope.as_deref(), task_id.as_deref())?;
                let newest = log::check_cursor(tx, run_key, start.cursor())?;
                let after = match start {
                    Start::Beginning => compaction::of_scope(tx, run_key)?,
                    Start::After(position) => position,
                    Start::Now => newest,
                };
                Ok((run_key, newest, after))
            })
            .await?;
        // Now means that nothing stored is of interest.
        let (queue, progress) = match start {
            Start::Now => (VecDeque::from([Message::CaughtUp(after)]), Progress::Live),
            Start::Beginning | Start::After(_) => (VecDeque::new(), Progress::CatchingUp),
        };
        Ok(Self {
            store: store.clone(),
            tail: Arc::clone(tail),
            waiter,
            draining,
            run_id,
            scan: Scan { run_key, after, filter, ..Scan::default() },
            has_cursor: start != Start::Beginning,
            seen: newest,
            bookmark_interval,
            queue,
            progress,
            run_may_have_ended: run_key.is_some(),
            last_sent: Instant::now(),
        })
    }

    /// The next message; None after the last.
    pub async fn next(&mut self) -> Option<Result<Message<T>>> {
        loop {
            if let Some(message) = self.queue.pop_front() {
                self.last_sent = Instant::now();
                return Some(Ok(message));
            }
            match self.progress {
                Progress::Ended => return None,
                Progress::Drained => {
                    self.progress = Progress::Ended;
                    return Some(Err(Error::Draining));
                }
                _ if *self.draining.borrow() => self.drain(),
                Progress::CatchingUp | Progress::Live => {
                    if let Err(error) = self.step().await {
                        self.progress = Progress::Ended;
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    fn drain(&mut self) {
        self.queue.push_back(Message::End(EndReason::Draining, self.scan.after));
        self.progress = Progress::Drained;
    }

    /// Looks for more; if there is none, says so when a bookmark is due, or waits.
    async fn step(&mut self) -> Result<()> {
        let before = self.scan.after;
        let is_bookmark_due = self.last_sent.elapsed() >= self.bookmark_interval;
        match self.look_into_tail(is_bookmark_due) {
            Some(part) => self.take_part(part),
            None => self.read().await?,
        }
        if !self.queue.is_empty() {
            return Ok(());
        }
        if is_bookmark_due {
            self.queue.push_back(Message::Bookmark(self.scan.after));
            self.has_cursor = true;
        } else if self.progress == Progress::Live && self.scan.after == before && !self.run_may_have_ended {
            self.wait().await;
        }
        Ok(())
    }

    /// None where only the store knows. So it is for the bookmark of one run after something happened elsewhere: the tail
    /// may have left out what was deleted with the run, and the store finds one run's events at once.
    fn look_into_tail(&self, is_bookmark_due: bool) -> Option<Part<T>> {
        let is_for_store = is_bookmark_due && self.run_id.is_some() && self.tail.end() > self.scan.after;
        if self.progress != Progress::Live || self.run_may_have_ended || is_for_store {
            return None;
        }
        self.tail.after(self.scan.after, self.seen, self.run_id.as_deref(), &self.scan.filter)
    }

    /// Until there may be more, a bookmark is due, or the server shuts down.
    async fn wait(&mut self) {
        let bookmark_due = self.last_sent + self.bookmark_interval;
        tokio::select! {
            () = self.waiter.wait_past(self.scan.after) => {}
            // An error means that the server is gone: the same.
            _ = self.draining.wait_for(|draining| *draining) => {}
            () = tokio::time::sleep_until(bookmark_due) => {}
        }
    }

    fn take_part(&mut self, part: Part<T>) {
        self.queue.extend(part.events.into_iter().map(Message::Event));
        self.scan.after = part.up_to;
        self.run_may_have_ended = part.may_end_run;
    }

    async fn read(&mut self) -> Result<()> {
        let scan = self.scan.clone();
        let cursor = self.has_cursor.then_some(scan.after);
        let read = self.store.read_exempt(move |tx| log::read(tx, &scan, cursor, PAGE)).await?;
        self.seen = read.newest_position;
        self.take(read);
        self.has_cursor |= !self.queue.is_empty();
        Ok(())
    }

    fn take(&mut self, read: LogRead) {
        let nothing_new = read.found.events.is_empty();
        self.queue.extend(read.found.events.into_iter().map(|event| Message::Event(T::of(event))));
        // With something new: once more, to see that nothing follows.
        self.run_may_have_ended = read.run == RunState::Ended;
        if let ScanEnd::Full(stopped_at) | ScanEnd::Looked(stopped_at) = read.found.end {
            self.scan.after = stopped_at;
            return;
        }
        self.scan.after = self.scan.after.max(read.newest_position);
        let was_behind = std::mem::replace(&mut self.progress, Progress::Live) == Progress::CatchingUp;
        let end = match read.run {
            RunState::Deleted => Some(EndReason::RunDeleted),
            RunState::Ended if nothing_new => Some(EndReason::RunEnded),
            RunState::Ended | RunState::GoesOn => None,
        };
        if was_behind && end != Some(EndReason::RunDeleted) {
            self.queue.push_back(Message::CaughtUp(self.scan.after));
        }
        if let Some(reason) = end {
            self.queue.push_back(Message::End(reason, self.scan.after));
            self.progress = Progress::Ended;
        }
    }
}

#[cfg(test)]
mod tests;
