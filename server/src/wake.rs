//! Calls that are held until the store has something for them, and the sweeper's next due time.
//!
//! The store passes every committed `Signal` to `Waiters`, which wakes as many held calls as the change can serve. A wake-up
//! decides nothing: a woken call reads the store again. A call registers and enables its notification before it reads, so
//! a change that commits after the read wakes it.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::store::{Listener, Signal};

/// All held calls, and the sweeper's timer.
#[derive(Default)]
pub struct Waiters {
    /// ClaimTask calls that wait for a task. Calls that want the same share a list: if one of them finds nothing, none would.
    pub claims: WaitLists<ClaimsFor>,
    /// Waiting ClaimTask calls that have a request_id, by RPC and request_id. When one of them is answered, its duplicates
    /// return the same answer.
    pub duplicates: WaitLists<(&'static str, String)>,
    /// WaitApproval calls, by approval.
    pub approvals: WaitLists<Key>,
    /// When the sweeper runs next.
    pub due_timer: DueTimer,
}

/// The tasks that a waiting claim accepts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimsFor {
    /// The run and its repository; None: any run.
    pub run: Option<(Key, String)>,
    /// The capabilities of the agent.
    pub capabilities: BTreeSet<String>,
}

impl ClaimsFor {
    fn accepts_run(&self, run_key: Key) -> bool {
        self.run.as_ref().is_none_or(|(key, _)| *key == run_key)
    }

    fn accepts_repo(&self, repo_path: &str) -> bool {
        self.run.as_ref().is_none_or(|(_, repo)| repo == repo_path)
    }
}

impl Waiters {
    /// Returns the callback by which the store reports what was committed.
    pub fn listener(self: &Arc<Self>) -> Listener {
        let waiters = Arc::clone(self);
        Box::new(move |signals| signals.iter().for_each(|signal| waiters.handle(signal)))
    }

    /// Wakes the calls that a committed change concerns.
    pub fn handle(&self, signal: &Signal) {
        match signal {
            Signal::Ready { run_key, tasks } => self.claims.notify(*tasks, |claims| claims.accepts_run(*run_key)),
            // Wake one claim only; a claim that finds a task wakes more (`Wakeup::found`).
            Signal::PathsFreed { repo_path } => self.claims.notify(1, |claims| claims.accepts_repo(repo_path)),
            Signal::RunEnded(key) => {
                self.claims.notify(usize::MAX, |claims| claims.run.as_ref().is_some_and(|(run, _)| run == key));
            }
            Signal::Answered { rpc, request_id } => {
                self.duplicates.notify(usize::MAX, |(other, id)| other == rpc && id == request_id);
            }
            Signal::Decided(key) => self.approvals.notify(usize::MAX, |approval| approval == key),
            Signal::Due(time) => self.due_timer.bring_forward(*time),
        }
    }
}

/// Lists of held calls, one list for each thing that calls wait for.
pub struct WaitLists<K> {
    lists: Mutex<HashMap<K, WaitList>>,
}

struct WaitList {
    notify: Arc<Notify>,
    waiters: usize,
}

impl<K> Default for WaitLists<K> {
    fn default() -> Self {
        Self { lists: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash> WaitLists<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, WaitList>> {
        // Each change of the map is one step, so a panic elsewhere leaves it whole.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a call that waits for `key`.
    pub fn register(&self, key: K) -> Waiter<'_, K> {
        let mut lists = self.lock();
        let list = lists.entry(key.clone()).or_insert_with(|| WaitList { notify: Arc::default(), waiters: 0 });
        list.waiters += 1;
        let notify = Arc::clone(&list.notify);
        drop(lists);
        Waiter { lists: self, key, notify }
    }

    /// Returns the number of waiting calls.
    pub fn waiter_count(&self) -> usize {
        self.lock().values().map(|list| list.waiters).sum()
    }

    /// Wakes up to `count` calls of each list whose key matches.
    fn notify(&self, count: usize, matches: impl Fn(&K) -> bool) {
        for (_, list) in self.lock().iter().filter(|(key, _)| matches(key)) {
            for _ in 0..count.min(list.waiters) {
                list.notify.notify_one();
            }
        }
    }
}

/// A registered call. If the call ends after it was notified and before it read the store, the notification goes to another
/// call of its list.
pub struct Waiter<'a, K: Clone + Eq + Hash> {
    lists: &'a WaitLists<K>,
    key: K,
    notify: Arc<Notify>,
}

impl<K: Clone + Eq + Hash> Waiter<'_, K> {
    /// Returns a future that ends at the next notification. Call it before the read that may find nothing: notifications
    /// count from this call, not from the first poll.
    pub fn notified(&self) -> Pin<Box<OwnedNotified>> {
        let mut notified = Box::pin(Arc::clone(&self.notify).notified_owned());
        notified.as_mut().enable();
        notified
    }

    /// Returns the wake-up that this call has just received. Keep it until the read shows whether it was of use.
    pub fn woken(&self) -> Wakeup<'_, K> {
        Wakeup { waiter: self, is_passed_on: true }
    }
}

/// A notification that a call has received. If it is dropped unanswered, because the caller disconnected or the read failed,
/// another call of the list is woken instead.
pub struct Wakeup<'a, K: Clone + Eq + Hash> {
    waiter: &'a Waiter<'a, K>,
    is_passed_on: bool,
}

impl<K: Clone + Eq + Hash> Wakeup<'_, K> {
    /// Reports that the call found a task. Freed paths wake only one call, because nobody knows how many tasks they
    /// unblock without checking them all. So a call that finds a task with paths wakes two more.
    pub fn found(mut self, has_paths: bool) {
        self.is_passed_on = false;
        let further_calls = if has_paths { 2 } else { 0 };
        for _ in 0..further_calls {
            self.waiter.notify.notify_one();
        }
    }

    /// Reports that the call found nothing. The other calls of the list would find nothing either.
    pub fn found_nothing(mut self) {
        self.is_passed_on = false;
    }
}

impl<K: Clone + Eq + Hash> Drop for Wakeup<'_, K> {
    fn drop(&mut self) {
        if self.is_passed_on {
            self.waiter.notify.notify_one();
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Waiter<'_, K> {
    fn drop(&mut self) {
        let mut lists = self.lists.lock();
        if let Some(list) = lists.get_mut(&self.key) {
            list.waiters -= 1;
            if list.waiters == 0 {
                lists.remove(&self.key);
            }
        }
    }
}

/// When the sweeper has to act next, as far as it has been told.
#[derive(Default)]
pub struct DueTimer {
    time: Mutex<Option<Timestamp>>,
    earlier: Notify,
}

impl DueTimer {
    fn lock(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something falls due at `time`, and wakes the sweeper if that is earlier than it knew.
    pub fn bring_forward(&self, time: Timestamp) {
        let mut next = self.lock();
        if next.is_none_or(|next| time < next) {
            *next = Some(time);
            self.earlier.notify_one();
        }
    }

    /// Forgets the noted time. Call it before reading the store, which knows every due time.
    pub fn reset(&self) {
        *self.lock() = None;
    }

    /// Returns the earliest noted time, if any.
    pub fn time(&self) -> Option<Timestamp> {
        *self.lock()
    }

    /// Waits until an earlier time is noted than `time` returned.
    pub async fn brought_forward(&self) {
        self.earlier.notified().await;
    }
}

#[cfg(test)]
mod tests;
