//! This module implements a watcher of the log. A watcher sends every event after its cursor and then new events live,
//! without a gap. `tests/support/oracle` lists the guarantees E1 to E7 of a watcher.
//!
//! A watcher first registers for wake-ups, then reads pages from the store until no event remains, and then waits. A
//! wake-up reports only that the log has grown. A live watcher reads new events from the tail. If the watcher falls
//! behind the tail, the watcher reads the store again. A watcher reads the next page only after its client has taken
//! the previous page, so a slow client uses the memory of one page and delays no other client.

mod growth;
mod tail;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::growth::GrowthWaiter;
use self::tail::Part;
pub use self::tail::{SIZE as TAIL_SIZE, Tail, WatcherEvent};
pub use crate::actions::log::StartPoint;
use crate::actions::log::{self, LogRead, RunState, WatchStart};
use crate::domain::event::EventFilter;
use crate::error::{Error, Result};
use crate::store::events::{Scan, ScanEnd};
use crate::store::{Limit, Store, Tx};

/// Maximum number of events that a watcher holds in memory.
const PAGE_ROWS: usize = 500;
/// Maximum total size of the events that a watcher holds in memory, in bytes. A single event may exceed the maximum.
/// The size starts with the smallest value and doubles each time that the client takes the events of a page within
/// `FAST_READ`, so that a client that does not read uses little memory.
const PAGE_BYTES: RangeInclusive<usize> = 16 * 1024..=128 * 1024;
/// Time in which a client that reads fast takes the events of a page.
const FAST_READ: Duration = Duration::from_secs(1);
/// Factor by which a part of the tail may be larger than a page. The events of the tail are shared by all watchers.
const TAIL_FACTOR: usize = 4;
/// Maximum size of a part of the tail for a client that reads fast, in bytes.
pub const TAIL_PART_BYTES: usize = TAIL_FACTOR * *PAGE_BYTES.end();

/// A client's request for a subscription.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// The id of the watched run. None means that the watcher receives the events of all runs.
    pub run_id: Option<String>,
    /// The filter that selects the events to send.
    pub filter: EventFilter,
    /// The position at which the watcher starts: the beginning of the log, the end of the log, or directly after a
    /// given position.
    pub start: StartPoint,
    /// The maximum time without a message. After this time the watcher sends a bookmark.
    pub bookmark_interval: Duration,
}

/// A message to the client. The position of each message is a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message<T> {
    Event(T),
    CaughtUp(i64),
    Bookmark(i64),
    End(EndReason, i64),
}

/// The reason why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EndReason {
    RunEnded,
    RunDeleted,
    Draining,
}

/// A watcher whose request the server has accepted.
pub struct Watcher<T> {
    store: Store,
    tail: Arc<Tail<T>>,
    waiter: GrowthWaiter,
    draining: watch::Receiver<bool>,
    run_id: Option<String>,
    scan: Scan,
    /// If the client has a cursor, the value is true. If retention then removes an event after the cursor, the watcher
    /// fails. A client that subscribes from the beginning of the log has no cursor before the first message.
    has_cursor: bool,
    /// The newest position of the log at the watcher's last read of the store.
    seen: i64,
    bookmark_interval: Duration,
    /// Maximum size of the next page, in bytes.
    page_bytes: usize,
    /// The time at which the watcher last queued events.
    last_queued: Instant,
    /// The messages that the client has not taken yet.
    queue: VecDeque<Message<T>>,
    progress: Progress,
    /// If the watched run may have ended, the value is true. The watcher must then read the run's status from the
    /// store.
    run_may_have_ended: bool,
    last_sent: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The store may contain further events for the watcher.
    CatchingUp,
    /// The message `caught_up` was sent or queued.
    Live,
    /// The last message of the stream was queued.
    Ended,
    /// The last message of the stream was queued. The error DRAINING follows the last message.
    Drained,
}

impl<T: WatcherEvent> Watcher<T> {
    /// Checks the request and returns a watcher for the request.
    ///
    /// # Errors
    /// Fails if the run, the task or the cursor in the request is not valid. The stream does not report these errors
    /// later.
    pub async fn start(
        store: &Store,
        tail: &Arc<Tail<T>>,
        draining: watch::Receiver<bool>,
        request: WatchRequest,
    ) -> Result<Self> {
        let WatchRequest { run_id, filter, start, bookmark_interval } = request;
        let waiter = tail.register(run_id.clone());
        let scope = run_id.clone();
        let task_id = filter.task_id.clone();
        let start_watch = move |tx: &mut dyn Tx| log::start_watch(tx, scope.as_deref(), task_id.as_deref(), start);
        let WatchStart { run_key, newest_position, after } = store.read(start_watch).await?;
        // A watcher that starts at the end of the log has already caught up.
        let (queue, progress) = match start {
            StartPoint::Now => (VecDeque::from([Message::CaughtUp(after)]), Progress::Live),
            StartPoint::Beginning | StartPoint::After(_) => (VecDeque::new(), Progress::CatchingUp),
        };
        Ok(Self {
            store: store.clone(),
            tail: Arc::clone(tail),
            waiter,
            draining,
            run_id,
            scan: Scan { run_key, after, filter, ..Scan::default() },
            has_cursor: start != StartPoint::Beginning,
            seen: newest_position,
            bookmark_interval,
            page_bytes: *PAGE_BYTES.start(),
            last_queued: Instant::now(),
            queue,
            progress,
            run_may_have_ended: run_key.is_some(),
            last_sent: Instant::now(),
        })
    }

    /// Returns the log_id of the log in which the positions of the messages are valid.
    pub fn log_id(&self) -> &str {
        self.store.log_id()
    }

    /// Returns the next message or the error that ends the stream, or None after the end of the stream.
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
                    if let Err(error) = self.queue_messages().await {
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

    /// Queues new messages. If there are no new messages, queues a bookmark that is due, or waits until the log grows.
    /// Fails if a read of the store fails.
    async fn queue_messages(&mut self) -> Result<()> {
        self.adapt_page_size();
        let before = self.scan.after;
        let is_bookmark_due = self.last_sent.elapsed() >= self.bookmark_interval;
        match self.read_tail(is_bookmark_due) {
            Some(part) => self.queue_tail_events(part),
            None => self.read_store().await?,
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

    /// Doubles the size of the next page if the client has taken the last page fast. Otherwise, the next page has the
    /// smallest size.
    fn adapt_page_size(&mut self) {
        let now = Instant::now();
        let is_fast = now.duration_since(self.last_queued) < FAST_READ;
        self.last_queued = now;
        self.page_bytes = if is_fast { (2 * self.page_bytes).min(*PAGE_BYTES.end()) } else { *PAGE_BYTES.start() };
    }

    /// Returns new events from the tail, or None if the watcher must read the store instead. If a bookmark is due and
    /// the tail has newer events, a watcher of one run reads the store. The tail drops the events of deleted runs, so
    /// the tail can't confirm the position of the bookmark.
    fn read_tail(&self, is_bookmark_due: bool) -> Option<Part<T>> {
        let needs_store = is_bookmark_due && self.run_id.is_some() && self.tail.end() > self.scan.after;
        if self.progress != Progress::Live || self.run_may_have_ended || needs_store {
            return None;
        }
        let bytes = TAIL_FACTOR * self.page_bytes;
        self.tail.events_after(self.scan.after, self.seen, self.run_id.as_deref(), &self.scan.filter, bytes)
    }

    /// Waits until the log grows, a bookmark is due, or the server shuts down.
    async fn wait(&mut self) {
        let bookmark_due = self.last_sent + self.bookmark_interval;
        tokio::select! {
            () = self.waiter.wait_past(self.scan.after) => {}
            // Treat an error of the channel `draining` as a drain, because the error means that the server has ended.
            _ = self.draining.wait_for(|draining| *draining) => {}
            () = tokio::time::sleep_until(bookmark_due) => {}
        }
    }

    fn queue_tail_events(&mut self, part: Part<T>) {
        self.queue.extend(part.events.into_iter().map(Message::Event));
        self.scan.after = part.up_to;
        self.run_may_have_ended = part.may_end_run;
    }

    async fn read_store(&mut self) -> Result<()> {
        let scan = self.scan.clone();
        let cursor = self.has_cursor.then_some(scan.after);
        let limit = Limit { rows: PAGE_ROWS, bytes: self.page_bytes };
        let read = self.store.read_exempt(move |tx| log::read(tx, &scan, cursor, limit)).await?;
        self.seen = read.newest_position;
        self.queue_read_events(read);
        self.has_cursor |= !self.queue.is_empty();
        Ok(())
    }

    fn queue_read_events(&mut self, read: LogRead) {
        let nothing_new = read.found.events.is_empty();
        self.queue.extend(read.found.events.into_iter().map(|event| Message::Event(T::from_event(event))));
        // If the page contains events, the watcher reads the store again before the watcher reports the end of the run,
        // because more events may follow the page.
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
            RunState::Ended | RunState::Active => None,
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
