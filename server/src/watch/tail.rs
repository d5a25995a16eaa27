//! The tail: the newest events in memory, each read and encoded once for all live watchers.
//!
//! The tail is a cache of the log and never its source. It is filled from the store, and a watcher whose cursor is before
//! the tail's begin reads the store.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::growth::{GrowthNotifier, GrowthWaiter};
use crate::actions::log;
use crate::domain::event::{Event, EventFilter};
use crate::error::Result;
use crate::store::events::{Found, Scan, ScanEnd};
use crate::store::{Limit, Store};

/// The approximate size of the tail. Watchers that are further behind read the store.
pub const SIZE: Limit = Limit { rows: 16_384, bytes: 16 * 1024 * 1024 };

/// Approximate bytes of memory that an entry takes beside its encoded event.
const AROUND_EVENT: usize = 512;

/// The most that one read of the store returns.
const READ: Limit = Limit { rows: 1_000, bytes: 1024 * 1024 };

/// How many entries one call of `after` checks.
const CHECKED_ENTRIES: usize = 2_048;

/// The most that one call of `after` returns.
const TAKE: Limit = Limit { rows: 256, bytes: 512 * 1024 };

/// An event in the form that watchers are sent: encoded once, and cheap to clone.
pub trait Shown: Clone {
    /// Encodes an event.
    fn of(event: Event) -> Self;
    /// Returns the approximate bytes of memory that it takes.
    fn bytes(&self) -> usize;
}

/// The newest events, in the form that watchers are sent.
pub struct Tail<T> {
    held: RwLock<Held<T>>,
    size: Limit,
    growth: Arc<GrowthNotifier>,
}

/// Every event after `begin` up to `end`, except those of runs that were deleted since.
struct Held<T> {
    begin: i64,
    end: i64,
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// The runs whose deletion is among the entries.
    deleted: BTreeSet<String>,
}

struct Entry<T> {
    position: i64,
    run_id: String,
    task_id: Option<String>,
    source: String,
    kind: String,
    bytes: usize,
    shown: T,
}

impl<T: Shown> Entry<T> {
    fn of(event: Event) -> Self {
        let position = event.position;
        let run_id = event.run_id.clone();
        let task_id = event.task_id.clone();
        let source = event.source.clone();
        let kind = event.kind.clone();
        let shown = T::of(event);
        Self { position, run_id, task_id, source, kind, bytes: AROUND_EVENT + shown.bytes(), shown }
    }
}

impl<T> Entry<T> {
    fn deletes_run(&self) -> bool {
        Event::deletes_run(&self.source, &self.kind)
    }
}

/// Some events after a position.
pub struct Part<T> {
    /// The events that pass the filter, in ascending position.
    pub events: Vec<T>,
    /// Every event up to this position was checked.
    pub up_to: i64,
    /// One of the checked events, filtered out or not, can end the run.
    pub may_end_run: bool,
}

impl<T: Shown> Tail<T> {
    /// Returns an empty tail that begins after a position.
    pub fn new(begin: i64, size: Limit) -> Self {
        Self { held: RwLock::new(Held::empty(begin)), size, growth: Arc::default() }
    }

    /// Registers a waiter for new events of a run, or of all runs if `run_id` is None. Call it before the read that may find
    /// nothing.
    pub fn register(&self, run_id: Option<String>) -> GrowthWaiter {
        self.growth.register(run_id)
    }

    /// Returns whether anybody waits for new events.
    pub fn has_waiters(&self) -> bool {
        self.growth.has_waiters()
    }

    /// Returns the events after a position, or None if the caller must read the store: the position is before the begin, the
    /// run was deleted, or the caller has `seen` a newer position in the store, which may be a deletion that the tail does
    /// not have yet.
    pub fn after(&self, position: i64, seen: i64, run_id: Option<&str>, filter: &EventFilter) -> Option<Part<T>> {
        let held = self.read();
        if position < held.begin || (position < held.end && held.end < seen) {
            return None;
        }
        if run_id.is_some_and(|run_id| held.deleted.contains(run_id)) {
            return None;
        }
        let mut part = Part { events: Vec::new(), up_to: position.max(held.end), may_end_run: false };
        let first = held.entries.partition_point(|entry| entry.position <= position);
        let mut bytes = 0;
        for (looked, entry) in held.entries.range(first..).enumerate() {
            if looked == CHECKED_ENTRIES || part.events.len() == TAKE.rows || bytes > TAKE.bytes {
                part.up_to = entry.position - 1;
                break;
            }
            if run_id.is_some_and(|run_id| entry.run_id != run_id) {
                continue;
            }
            part.may_end_run |= run_id.is_some() && Event::may_end_run(&entry.source, &entry.kind);
            if filter.passes(&entry.kind, &entry.source, entry.task_id.as_deref()) {
                bytes += entry.bytes;
                part.events.push(entry.shown.clone());
            }
        }
        Some(part)
    }

    /// Keeps the tail up to date until the server shuts down. While nobody waits for events it reads nothing.
    pub async fn follow(self: Arc<Self>, store: Store, mut draining: watch::Receiver<bool>) {
        let mut growth = store.log_growth();
        loop {
            tokio::select! {
                grown = growth.changed() => if grown.is_err() { return },
                _ = draining.wait_for(|draining| *draining) => return,
            }
            let newest = *growth.borrow_and_update();
            if let Err(error) = self.catch_up(&store, newest).await {
                tracing::warn!(%error, "the tail could not read new events; watchers read the store instead");
                self.skip_to(newest);
            }
        }
    }

    async fn catch_up(&self, store: &Store, newest: i64) -> Result<()> {
        while self.end() < newest {
            if !self.has_waiters() || usize::try_from(newest - self.end()).is_ok_and(|behind| behind > self.size.rows) {
                self.skip_to(newest);
                return Ok(());
            }
            let scan = Scan { after: self.end(), ..Scan::default() };
            // Pass the cursor: events that retention has removed meanwhile are an error here too, not a gap.
            let look = store.read_as_server(move |tx| log::look(tx, &scan, Some(scan.after), READ)).await?;
            self.extend(look.found, look.newest_position);
        }
        Ok(())
    }

    /// Returns the position up to which the tail has everything.
    pub fn end(&self) -> i64 {
        self.read().end
    }

    /// Empties the tail and begins after a position. Watchers before it read the store.
    fn skip_to(&self, position: i64) {
        *self.write() = Held::empty(position);
        self.growth.notify_all(position);
    }

    pub(super) fn extend(&self, found: Found, newest: i64) {
        let end = match found.end {
            ScanEnd::Exhausted => newest,
            ScanEnd::Full(at) | ScanEnd::Checked(at) => at,
        };
        let entries: Vec<Entry<T>> = found.events.into_iter().map(Entry::of).collect();
        let runs: BTreeSet<String> = entries.iter().map(|entry| entry.run_id.clone()).collect();
        let mut held = self.write();
        entries.into_iter().for_each(|entry| held.push(entry, self.size));
        held.end = end;
        drop(held);
        self.growth.notify(runs.iter(), end);
    }

    fn read(&self) -> RwLockReadGuard<'_, Held<T>> {
        // No code panics while it holds the lock.
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held<T>> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Held<T> {
    fn empty(begin: i64) -> Self {
        Self { begin, end: begin, entries: VecDeque::new(), bytes: 0, deleted: BTreeSet::new() }
    }

    fn push(&mut self, entry: Entry<T>, size: Limit) {
        if entry.deletes_run() {
            // Nobody is sent the events of a deleted run any more.
            self.entries.retain(|other| other.run_id != entry.run_id);
            self.bytes = self.entries.iter().map(|entry| entry.bytes).sum();
            self.deleted.insert(entry.run_id.clone());
        }
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
        while self.entries.len() > size.rows || self.bytes > size.bytes {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.bytes;
            self.begin = oldest.position;
            if oldest.deletes_run() {
                self.deleted.remove(&oldest.run_id);
            }
        }
    }
}
