//! This module implements the tail: a cache of the newest events of the log. Each event in the tail is read and encoded
//! once for all live watchers.
//!
//! The tail reads its events from the store. If the cursor of a watcher is before the start of the tail, the watcher
//! reads the store instead of the tail.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::growth::{GrowthNotifier, GrowthWaiter};
use crate::actions::log;
use crate::domain::event::{Event, EventFilter, RUN_DELETED};
use crate::error::Result;
use crate::store::events::{Scan, ScanEnd, ScanResult};
use crate::store::{Limit, Store};

/// Maximum number of events in the tail, and approximate maximum of their total bytes. A watcher whose cursor is before
/// the start of the tail reads the store.
pub const SIZE: Limit = Limit { rows: 16_384, bytes: 16 * 1024 * 1024 };

/// Approximate memory that an entry uses in addition to its encoded event, in bytes.
const AROUND_EVENT: usize = 512;

/// Maximum number and total bytes of the events that one read of the store returns.
const READ: Limit = Limit { rows: 1_000, bytes: 1024 * 1024 };

/// Maximum number of entries that one call of `Tail::events_after` checks.
const CHECKED_ENTRIES: usize = 2_048;

/// Maximum number of events that one call of `Tail::events_after` returns.
const TAKE_ROWS: usize = 256;

/// An event in the form that watchers receive. The event is encoded once and is cheap to clone.
pub trait WatcherEvent: Clone {
    /// Returns the encoded form of an event.
    fn from_event(event: Event) -> Self;
    /// Returns the approximate memory of the encoded event, in bytes.
    fn bytes(&self) -> usize;
}

/// The newest events of the log, in the form that watchers receive.
pub struct Tail<T> {
    contents: RwLock<TailContents<T>>,
    size: Limit,
    growth: Arc<GrowthNotifier>,
}

/// The events after position `begin` and up to position `end`, without the events of runs that were deleted later.
struct TailContents<T> {
    begin: i64,
    end: i64,
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// The ids of the runs whose deletion has begun, until their run_deleted event leaves the tail.
    deleted: BTreeSet<String>,
}

struct Entry<T> {
    position: i64,
    run_id: String,
    task_id: Option<String>,
    source: String,
    kind: String,
    bytes: usize,
    encoded: T,
}

impl<T: WatcherEvent> Entry<T> {
    fn from_event(event: Event) -> Self {
        let position = event.position;
        let run_id = event.run_id.clone();
        let task_id = event.task_id.clone();
        let source = event.source.clone();
        let kind = event.kind.clone();
        let encoded = T::from_event(event);
        Self { position, run_id, task_id, source, kind, bytes: AROUND_EVENT + encoded.bytes(), encoded }
    }
}

impl<T> Entry<T> {
    fn deletes_run(&self) -> bool {
        Event::deletes_run(&self.source, &self.kind)
    }
}

/// The events of the tail after a position.
pub struct Part<T> {
    /// The events that pass the filter, in ascending order of position.
    pub events: Vec<T>,
    /// The position up to which every event was checked.
    pub up_to: i64,
    /// If one of the checked events can end the run, even if the filter excludes that event, the value is true.
    pub may_end_run: bool,
}

impl<T: WatcherEvent> Tail<T> {
    /// Returns an empty tail that starts after position `begin`.
    pub fn new(begin: i64, size: Limit) -> Self {
        Self { contents: RwLock::new(TailContents::empty(begin)), size, growth: Arc::default() }
    }

    /// Registers a waiter for new events of the run `run_id` and returns the waiter. If `run_id` is None, the waiter
    /// waits for new events of all runs. Call this method before a read that may find no events. The waiter may miss
    /// notifications that were sent before the registration.
    pub fn register(&self, run_id: Option<String>) -> GrowthWaiter {
        self.growth.register(run_id)
    }

    /// Returns whether a waiter for new events is registered.
    pub fn has_waiters(&self) -> bool {
        self.growth.has_waiters()
    }

    /// Returns the events after `position`. Returns None if the caller must read the store, because `position` is
    /// before the tail, the run was deleted, or the tail ends before `seen`. `seen` is the newest position that the
    /// caller has read from the store. A tail that ends before `seen` may lack the deletion of a run. `max_bytes` is
    /// the approximate maximum of the total size of the returned events.
    pub fn events_after(
        &self,
        position: i64,
        seen: i64,
        run_id: Option<&str>,
        filter: &EventFilter,
        max_bytes: usize,
    ) -> Option<Part<T>> {
        let contents = self.read();
        if position < contents.begin || (position < contents.end && contents.end < seen) {
            return None;
        }
        if run_id.is_some_and(|run_id| contents.deleted.contains(run_id)) {
            return None;
        }
        let mut part = Part { events: Vec::new(), up_to: position.max(contents.end), may_end_run: false };
        let first = contents.entries.partition_point(|entry| entry.position <= position);
        let mut bytes = 0;
        for (checked, entry) in contents.entries.range(first..).enumerate() {
            if checked == CHECKED_ENTRIES || part.events.len() == TAKE_ROWS || bytes > max_bytes {
                part.up_to = entry.position - 1;
                break;
            }
            if run_id.is_some_and(|run_id| entry.run_id != run_id) {
                continue;
            }
            part.may_end_run |= run_id.is_some() && Event::may_end_run(&entry.source, &entry.kind);
            if filter.accepts(&entry.kind, &entry.source, entry.task_id.as_deref()) {
                bytes += entry.bytes;
                part.events.push(entry.encoded.clone());
            }
        }
        Some(part)
    }

    /// Keeps the tail up to date until the server shuts down. If no waiter is registered, the tail reads no events.
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
            // Pass the cursor: if retention has removed events after the cursor, the read fails. Without the cursor,
            // the tail would have a gap.
            let read = store.read_as_server(move |tx| log::read(tx, &scan, Some(scan.after), READ)).await?;
            self.extend(read.found, read.newest_position);
        }
        Ok(())
    }

    /// Returns the position up to which the tail is complete.
    pub fn end(&self) -> i64 {
        self.read().end
    }

    /// Empties the tail and starts the tail after `position`. Watchers whose cursor is before `position` read the
    /// store.
    fn skip_to(&self, position: i64) {
        *self.write() = TailContents::empty(position);
        self.growth.notify_all(position);
    }

    pub(super) fn extend(&self, found: ScanResult, newest: i64) {
        let end = match found.end {
            ScanEnd::Exhausted => newest,
            ScanEnd::Full(at) | ScanEnd::Checked(at) => at,
        };
        let entries: Vec<Entry<T>> = found.events.into_iter().map(Entry::from_event).collect();
        let runs: BTreeSet<String> = entries.iter().map(|entry| entry.run_id.clone()).collect();
        let mut contents = self.write();
        entries.into_iter().for_each(|entry| contents.push(entry, self.size));
        contents.end = end;
        drop(contents);
        self.growth.notify(runs.iter(), end);
    }

    fn read(&self) -> RwLockReadGuard<'_, TailContents<T>> {
        // The lock of `contents` is never poisoned, because no code panics while holding the lock.
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, TailContents<T>> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> TailContents<T> {
    fn empty(begin: i64) -> Self {
        Self { begin, end: begin, entries: VecDeque::new(), bytes: 0, deleted: BTreeSet::new() }
    }

    fn push(&mut self, entry: Entry<T>, size: Limit) {
        if entry.deletes_run() {
            // Remove the earlier events of the run, because watchers must not receive events of a deleted run.
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
            if oldest.deletes_run() && oldest.kind == RUN_DELETED {
                self.deleted.remove(&oldest.run_id);
            }
        }
    }
}
