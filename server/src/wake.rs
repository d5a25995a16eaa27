//! Who waits for what: calls that are held until something is worth another look, and the sweeper's next time.
//!
//! It hears what was committed (`Signal`) and wakes as many as that concerns. Nothing is decided here and nothing is
//! lost here: who is woken looks at the store, and who begins to wait listens first and looks then.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::store::{Listener, Signal};

/// All that wait.
#[derive(Default)]
pub struct Wakes {
    /// Calls that wait for a task to claim. Those that wait for the same are one room: whoever of it looks, looks for all.
    pub claims: Rooms<ClaimsFor>,
    /// The same of those with a request_id: another call with the same one may get the answer for both.
    pub twins: Rooms<(&'static str, String)>,
    /// Calls that wait for a decision.
    pub approvals: Rooms<Key>,
    /// When something falls due.
    pub alarm: Alarm,
}

/// What a waiting claim could be given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimsFor {
    /// The run and its repository; None: any run.
    pub run: Option<(Key, String)>,
    /// What its agent can do.
    pub capabilities: BTreeSet<String>,
}

impl ClaimsFor {
    fn takes_from(&self, run_key: Key) -> bool {
        self.run.as_ref().is_none_or(|(key, _)| *key == run_key)
    }

    fn works_in(&self, repo_path: &str) -> bool {
        self.run.as_ref().is_none_or(|(_, repo)| repo == repo_path)
    }
}

impl Wakes {
    /// For the store to tell what was committed.
    pub fn listener(self: &Arc<Self>) -> Listener {
        let wakes = Arc::clone(self);
        Box::new(move |signals| signals.iter().for_each(|signal| wakes.hear(signal)))
    }

    /// Wakes as many as it concerns.
    pub fn hear(&self, signal: &Signal) {
        match signal {
            Signal::Ready { run_key, tasks } => self.claims.ring(*tasks, |claims| claims.takes_from(*run_key)),
            // One, and whoever finds something wakes more (`Woken::found`).
            Signal::PathsFreed { repo_path } => self.claims.ring(1, |claims| claims.works_in(repo_path)),
            Signal::RunEnded(key) => {
                self.claims.ring(usize::MAX, |claims| claims.run.as_ref().is_some_and(|(run, _)| run == key));
            }
            Signal::Answered { rpc, request_id } => {
                self.twins.ring(usize::MAX, |(other, id)| other == rpc && id == request_id);
            }
            Signal::Decided(key) => self.approvals.ring(usize::MAX, |approval| approval == key),
            Signal::Due(time) => self.alarm.bring_forward(*time),
        }
    }
}

/// Where calls wait, by what they wait for.
pub struct Rooms<K> {
    rooms: Mutex<HashMap<K, Room>>,
}

struct Room {
    bell: Arc<Notify>,
    seats: usize,
}

impl<K> Default for Rooms<K> {
    fn default() -> Self {
        Self { rooms: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash> Rooms<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Room>> {
        // Whoever panicked with it left a map that is whole: each change of it is one step.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place among those that wait for the same.
    pub fn sit(&self, what: K) -> Seat<'_, K> {
        let mut rooms = self.lock();
        let room = rooms.entry(what.clone()).or_insert_with(|| Room { bell: Arc::default(), seats: 0 });
        room.seats += 1;
        let bell = Arc::clone(&room.bell);
        drop(rooms);
        Seat { rooms: self, what, bell }
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.lock().values().map(|room| room.seats).sum()
    }

    /// Wakes up to so many in each room it concerns.
    fn ring(&self, count: usize, concerns: impl Fn(&K) -> bool) {
        for (_, room) in self.lock().iter().filter(|(what, _)| concerns(what)) {
            (0..count.min(room.seats)).for_each(|_| room.bell.notify_one());
        }
    }
}

/// A place among those that wait. Whoever leaves it when it was just rung for leaves the ring to another.
pub struct Seat<'a, K: Clone + Eq + Hash> {
    rooms: &'a Rooms<K>,
    what: K,
    bell: Arc<Notify>,
}

impl<K: Clone + Eq + Hash> Seat<'_, K> {
    /// Hears what rings from now on. To be called before the look that may find nothing.
    pub fn listen(&self) -> Pin<Box<OwnedNotified>> {
        let mut ring = Box::pin(Arc::clone(&self.bell).notified_owned());
        ring.as_mut().enable();
        ring
    }

    /// To be held from a ring until it is known what it was good for.
    pub fn woken(&self) -> Woken<'_, K> {
        Woken { seat: self, is_passed_on: true }
    }
}

/// A ring that was heard. If nobody says what it was good for (the caller is gone, the look failed), it goes to another.
pub struct Woken<'a, K: Clone + Eq + Hash> {
    seat: &'a Seat<'a, K>,
    is_passed_on: bool,
}

impl<K: Clone + Eq + Hash> Woken<'_, K> {
    /// There was a task. Freed paths ring for one, for how much they free takes a look at everything to know: who finds
    /// something there wakes two more.
    pub fn found(mut self, has_paths: bool) {
        self.is_passed_on = false;
        (0..if has_paths { 2 } else { 0 }).for_each(|_| self.seat.bell.notify_one());
    }

    /// There was nothing, so there is nothing for others that want the same.
    pub fn found_nothing(mut self) {
        self.is_passed_on = false;
    }
}

impl<K: Clone + Eq + Hash> Drop for Woken<'_, K> {
    fn drop(&mut self) {
        if self.is_passed_on {
            self.seat.bell.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Seat<'_, K> {
    fn drop(&mut self) {
        let mut rooms = self.rooms.lock();
        if let Some(room) = rooms.get_mut(&self.what) {
            room.seats -= 1;
            if room.seats == 0 {
                rooms.remove(&self.what);
            }
        }
    }
}

/// When the sweeper has to look next, as far as it was told.
#[derive(Default)]
pub struct Alarm {
    time: Mutex<Option<Timestamp>>,
    earlier: Notify,
}

impl Alarm {
    fn lock(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something falls due at this time: wakes the sweeper if that is before what it sleeps for.
    pub fn bring_forward(&self, time: Timestamp) {
        let mut next = self.lock();
        if next.is_none_or(|next| time < next) {
            *next = Some(time);
            self.earlier.notify_one();
        }
    }

    /// Forgets what was told so far: to be called before a look at the store, which knows it all.
    pub fn reset(&self) {
        *self.lock() = None;
    }

    /// What is due next.
    pub fn time(&self) -> Option<Timestamp> {
        *self.lock()
    }

    /// Until something falls due earlier than `time` said.
    pub async fn brought_forward(&self) {
        self.earlier.notified().await;
    }
}

#[cfg(test)]
mod tests;
