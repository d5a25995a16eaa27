//! One watcher of the log: everything after its cursor, then live, without a gap (E1 to E7).
//!
//! It registers for the wake-up first, then reads pages until there is nothing more, then waits. The wake-up says
//! only that the log has grown: events always come from the store. It reads the next page when the one before was
//! taken, so a slow reader costs one page of memory and holds nobody up.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::Key;
use crate::domain::event::{Event, EventFilter};
use crate::error::{Error, Resource, Result};
use crate::store::events::{self, Found, Scan, ScanEnd};
use crate::store::{Limit, Store, Tx, counters, runs, tasks};

/// What one watcher holds in memory at most, but for one larger event.
const PAGE: Limit = Limit { rows: 500, bytes: 256 * 1024 };

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
    /// After this position; 0 is the beginning.
    After(i64),
    /// With what is committed from now on.
    Now,
}

/// What a watcher is sent. Each has a position that is a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message {
    Event(Box<Event>),
    CaughtUp(i64),
    Bookmark(i64),
    End(EndReason, i64),
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EndReason {
    RunEnded,
    Draining,
}

/// A watcher that has begun.
pub struct Watch {
    store: Store,
    growth: watch::Receiver<i64>,
    draining: watch::Receiver<bool>,
    scan: Scan,
    bookmark_interval: Duration,
    /// Read and not yet taken.
    queue: VecDeque<Message>,
    progress: Progress,
    last_sent: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// There may be more stored.
    CatchingUp,
    /// `caught_up` was sent, and there may be more.
    Reading,
    /// Everything committed was read: wait for more.
    Waiting,
    /// The last message is in the queue.
    Ended,
    /// The last message is in the queue, and then an error.
    Drained,
}

/// Checks the scope of a list or a watch: the run and the task are there. Returns the run's key.
pub fn check_scope(tx: &mut dyn Tx, run_id: Option<&str>, task_id: Option<&str>) -> Result<Option<Key>> {
    let run_key = run_id.map(|id| runs::key(tx, id)).transpose()?;
    match (run_key, task_id) {
        (Some(run_key), Some(task_id)) => {
            tasks::key_in_run(tx, run_key, task_id)?;
        }
        (None, Some(task_id)) if !tasks::exists(tx, task_id)? => {
            return Err(Error::not_found(Resource::Task, task_id));
        }
        _ => {}
    }
    Ok(run_key)
}

/// Refuses a cursor that was never given. Returns the newest position.
pub fn check_cursor(tx: &mut dyn Tx, after: Option<i64>) -> Result<i64> {
    let newest_position = counters::newest_position(tx)?;
    match after {
        Some(after) if after > newest_position => Err(Error::PositionInFuture { newest_position }),
        _ => Ok(newest_position),
    }
}

impl Watch {
    /// Checks the request and begins. Everything that can be refused is refused here, before any message.
    pub async fn begin(store: &Store, draining: watch::Receiver<bool>, request: WatchRequest) -> Result<Self> {
        let growth = store.log_growth();
        let WatchRequest { run_id, filter, start, bookmark_interval } = request;
        let task_id = filter.task_id.clone();
        let (run_key, after) = store
            .read(move |tx| {
                let run_key = check_scope(tx, run_id.as_deref(), task_id.as_deref())?;
                match start {
                    Start::After(after) => check_cursor(tx, Some(after)).map(|_| (run_key, after)),
                    Start::Now => check_cursor(tx, None).map(|newest| (run_key, newest)),
                }
            })
            .await?;
        Ok(Self {
            store: store.clone(),
            growth,
            draining,
            scan: Scan { run_key, after, filter, ..Scan::default() },
            bookmark_interval,
            queue: VecDeque::new(),
            progress: Progress::CatchingUp,
            last_sent: Instant::now(),
        })
    }

    /// The next message; None after the last.
    pub async fn next(&mut self) -> Option<Result<Message>> {
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
                Progress::Waiting => self.wait().await,
                Progress::CatchingUp | Progress::Reading => {
                    if let Err(error) = self.read().await {
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

    /// Until the log grows, a bookmark is due, or the server shuts down.
    async fn wait(&mut self) {
        let bookmark_due = self.last_sent + self.bookmark_interval;
        let woken = tokio::select! {
            grown = self.growth.changed() => if grown.is_ok() { Woken::Grown } else { Woken::Draining },
            _ = self.draining.wait_for(|draining| *draining) => Woken::Draining,
            () = tokio::time::sleep_until(bookmark_due) => Woken::BookmarkDue,
        };
        match woken {
            Woken::Grown => self.progress = Progress::Reading,
            Woken::Draining => self.drain(),
            Woken::BookmarkDue => self.queue.push_back(Message::Bookmark(self.scan.after)),
        }
    }

    async fn read(&mut self) -> Result<()> {
        // Before the read: what is committed during it wakes the wait after it.
        self.growth.borrow_and_update();
        let scan = self.scan.clone();
        let look = self.store.read(move |tx| look(tx, &scan)).await?;
        self.take(look);
        Ok(())
    }

    fn take(&mut self, look: Look) {
        let nothing_new = look.found.events.is_empty();
        self.queue.extend(look.found.events.into_iter().map(|event| Message::Event(Box::new(event))));
        if let ScanEnd::Full(stopped_at) | ScanEnd::Looked(stopped_at) = look.found.end {
            self.scan.after = stopped_at;
            // Much is filtered out: where it is by now is worth a message.
            if nothing_new && self.last_sent.elapsed() >= self.bookmark_interval {
                self.queue.push_back(Message::Bookmark(stopped_at));
            }
            return;
        }
        self.scan.after = self.scan.after.max(look.newest_position);
        if self.progress == Progress::CatchingUp {
            self.queue.push_back(Message::CaughtUp(self.scan.after));
        }
        self.progress = match (look.run_has_ended, nothing_new) {
            (true, true) => {
                self.queue.push_back(Message::End(EndReason::RunEnded, self.scan.after));
                Progress::Ended
            }
            // Once more, to see that nothing follows.
            (true, false) => Progress::Reading,
            (false, _) => Progress::Waiting,
        };
    }
}

/// What ended a wait.
enum Woken {
    Grown,
    Draining,
    BookmarkDue,
}

/// What one read saw.
struct Look {
    found: Found,
    newest_position: i64,
    run_has_ended: bool,
}

fn look(tx: &mut dyn Tx, scan: &Scan) -> Result<Look> {
    let run = scan.run_key.map(|key| runs::standing(tx, key)).transpose()?;
    Ok(Look {
        found: events::scan(tx, scan, PAGE)?,
        newest_position: counters::newest_position(tx)?,
        run_has_ended: run.is_some_and(|run| run.status.is_terminal()),
    })
}
