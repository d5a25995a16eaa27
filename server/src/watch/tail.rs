//! The newest part of the log in memory: each event read and made ready once for all who watch live.
//!
//! It is a cache of the log and never its source: it is filled from the store, and who asks for something before its
//! begin reads the store.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::growth::{GrowthNotifier, GrowthWaiter};
use crate::actions::log;
use crate::domain::event::{Event, EventFilter};
use crate::error::Result;
use crate::store::events::{Found, Scan, ScanEnd};
use crate::store::{Limit, Store};

/// How much it holds, about. Who is further behind reads the store.
pub const SIZE: Limit = Limit { rows: 16_384, bytes: 16 * 1024 * 1024 };

/// What an entry takes in memory beside what is shown, about.
const AROUND_EVENT: usize = 512;

/// What is read at once.
const READ: Limit = Limit { rows: 1_000, bytes: 1024 * 1024 };

/// How many events are looked at at once, and how many of them are taken, unless they are large.
const LOOK_AT: usize = 2_048;
const TAKE: Limit = Limit { rows: 256, bytes: 512 * 1024 };

/// What watchers are shown of an event: made once, and cheap to clone.
pub trait Shown: Clone {
    /// Makes it.
    fn of(event: Event) -> Self;
    /// What it takes in memory, about.
    fn bytes(&self) -> usize;
}

/// The newest part of the log, each event as watchers are shown it.
pub struct Tail<T> {
    held: RwLock<Held<T>>,
    size: Limit,
    growth: Arc<GrowthNotifier>,
}

/// Every event after `begin` up to `end`, but for those of runs deleted since.
struct Held<T> {
    begin: i64,
    end: i64,
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// Runs whose deletion is among them.
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
        let (position, run_id, task_id) = (event.position, event.run_id.clone(), event.task_id.clone());
        let (source, kind) = (event.source.clone(), event.kind.clone());
        let shown = T::of(event);
        Self { position, run_id, task_id, source, kind, bytes: AROUND_EVENT + shown.bytes(), shown }
    }
}

impl<T> Entry<T> {
    fn deletes_run(&self) -> bool {
        Event::deletes_run(&self.source, &self.kind)
    }
}

/// What was found after a position.
pub struct Part<T> {
    /// In their order.
    pub events: Vec<T>,
    /// Everything up to here was looked at.
    pub up_to: i64,
    /// Among them, filtered out or not, is what can end a run.
    pub may_end_run: bool,
}

impl<T: Shown> Tail<T> {
    /// An empty one that begins after a position.
    pub fn new(begin: i64, size: Limit) -> Self {
        Self { held: RwLock::new(Held::empty(begin)), size, growth: Arc::default() }
    }

    /// Hears of what happens in a run, or in any, from now on. To be called before the read after which one waits.
    pub fn register(&self, run_id: Option<String>) -> GrowthWaiter {
        self.growth.register(run_id)
    }

    /// Somebody listens.
    pub fn has_waiters(&self) -> bool {
        self.growth.has_waiters()
    }

    /// What there is after a position; None if only the store knows: the position is before the begin, the run was
    /// deleted, or what was `seen` of the store is newer than this (a deletion, maybe, that this has not heard of).
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
            if looked == LOOK_AT || part.events.len() == TAKE.rows || bytes > TAKE.bytes {
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

    /// Follows the log until the server shuts down. While nobody listens nothing is read.
    pub async fn follow(self: Arc<Self>, store: Store, mut draining: watch::Receiver<bool>) {
        let mut growth = store.log_growth();
        loop {
            tokio::select! {
                grown = growth.changed() => if grown.is_err() { return },
                _ = draining.wait_for(|draining| *draining) => return,
            }
            let newest = *growth.borrow_and_update();
            if let Err(error) = self.catch_up(&store, newest).await {
                tracing::warn!(%error, "could not read the newest events: watchers read them themselves");
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
            // What retention has removed meanwhile must not be passed over here either.
            let read = store.read_as_server(move |tx| log::read(tx, &scan, Some(scan.after), READ)).await?;
            self.extend(read.found, read.newest_position);
        }
        Ok(())
    }

    /// Up to where it has everything.
    pub fn end(&self) -> i64 {
        self.read().end
    }

    /// Begins anew after a position: who is before it reads the store.
    fn skip_to(&self, position: i64) {
        *self.write() = Held::empty(position);
        self.growth.notify_all(position);
    }

    pub(super) fn extend(&self, found: Found, newest: i64) {
        let end = match found.end {
            ScanEnd::Exhausted => newest,
            ScanEnd::Full(at) | ScanEnd::Looked(at) => at,
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
        // Nothing panics with it.
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
            // What is deleted is shown to nobody any more.
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
