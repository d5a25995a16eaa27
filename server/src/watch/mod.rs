//! A watcher of the log: it sends every event after its cursor, and then new events live, without a gap (E1 to E7).
//!
//! A watcher registers for wake-ups first, then reads pages from the store until it has read everything, then waits. A
//! wake-up says only that the log has grown. A live watcher takes new events from the tail; if it falls behind the tail, it
//! reads the store again. It reads the next page only after its client has taken the page before, so a slow client costs
//! one page of memory and delays nobody.

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
pub use crate::actions::log::Start;
use crate::actions::log::{self, LogRead, RunState, WatchBegin};
use crate::domain::event::EventFilter;
use crate::error::{Error, Result};
use crate::store::events::{Scan, ScanEnd};
use crate::store::{Limit, Store, Tx};

/// The most that a watcher holds in memory, except for a single event that is larger.
const PAGE: Limit = Limit { rows: 500, bytes: 128 * 1024 };

/// A subscription, as the client asks for it.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// The run; None: all runs.
    pub run_id: Option<String>,
    /// Which events pass.
    pub filter: EventFilter,
    /// Where the watcher begins.
    pub start: Start,
    /// The longest time without a message: then the watcher sends a bookmark.
    pub bookmark_interval: Duration,
}

/// A message to the client. Its position is a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message<T> {
    Event(T),
    CaughtUp(i64),
    Bookmark(i64),
    End(EndReason, i64),
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EndReason {
    RunEnded,
    RunDeleted,
    Draining,
}

/// A watcher whose request was accepted.
pub struct Watch<T> {
    store: Store,
    tail: Arc<Tail<T>>,
    waiter: GrowthWaiter,
    draining: watch::Receiver<bool>,
    run_id: Option<String>,
    scan: Scan,
    /// The client has a cursor, so events that retention removes after it are an error. A watcher from the beginning has
    /// none before its first message.
    has_cursor: bool,
    /// The newest position of the log when the watcher last read the store.
    seen: i64,
    bookmark_interval: Duration,
    /// Messages that the client has not taken yet.
    queue: VecDeque<Message<T>>,
    progress: Progress,
    /// An event that can end the run was seen, so the watcher must ask the store for the run's status.
    run_may_have_ended: bool,
    last_sent: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The store may have more events.
    CatchingUp,
    /// `caught_up` is sent or queued.
    Live,
    /// The last message is queued.
    Ended,
    /// The last message is queued; the error DRAINING follows it.
    Drained,
}

impl<T: Shown> Watch<T> {
    /// Checks the request and returns a watcher.
    ///
    /// # Errors
    /// The scope or the cursor is wrong. No later message reports such an error.
    pub async fn begin(
        store: &Store,
        tail: &Arc<Tail<T>>,
        draining: watch::Receiver<bool>,
        request: WatchRequest,
    ) -> Result<Self> {
        let WatchRequest { run_id, filter, start, bookmark_interval } = request;
        let waiter = tail.register(run_id.clone());
        let scope = run_id.clone();
        let task_id = filter.task_id.clone();
        let begin = move |tx: &mut dyn Tx| log::begin_watch(tx, scope.as_deref(), task_id.as_deref(), start);
        let WatchBegin { run_key, newest_position, after } = store.read(begin).await?;
        // A watcher that begins now has caught up already.
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
            seen: newest_position,
            bookmark_interval,
            queue,
            progress,
            run_may_have_ended: run_key.is_some(),
            last_sent: Instant::now(),
        })
    }

    /// Returns the next message, or None after the last.
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

    /// Queues new messages. If there are none, it queues a bookmark that is due, or waits.
    async fn step(&mut self) -> Result<()> {
        let before = self.scan.after;
        let is_bookmark_due = self.last_sent.elapsed() >= self.bookmark_interval;
        match self.read_tail(is_bookmark_due) {
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

    /// Reads the tail; returns None if the watcher must read the store instead. A due bookmark of one run needs the store
    /// when other runs have newer events: the tail drops the events of deleted runs, so it can't vouch for the position.
    fn read_tail(&self, is_bookmark_due: bool) -> Option<Part<T>> {
        let needs_store = is_bookmark_due && self.run_id.is_some() && self.tail.end() > self.scan.after;
        if self.progress != Progress::Live || self.run_may_have_ended || needs_store {
            return None;
        }
        self.tail.after(self.scan.after, self.seen, self.run_id.as_deref(), &self.scan.filter)
    }

    /// Waits until the log grows, a bookmark is due, or the server shuts down.
    async fn wait(&mut self) {
        let bookmark_due = self.last_sent + self.bookmark_interval;
        tokio::select! {
            () = self.waiter.wait_past(self.scan.after) => {}
            // An error means that the server has ended, which is handled like draining.
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
        // If this page has events, read again: more may follow before the end.
        self.run_may_have_ended = read.run == RunState::Ended;
        if let ScanEnd::Full(stopped_at) | ScanEnd::Checked(stopped_at) = read.found.end {
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
