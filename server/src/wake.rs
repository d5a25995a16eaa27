//! When the store commits a change that held calls wait for, this module wakes the calls. The module also stores the
//! time at which the sweeper must act next.
//!
//! The store passes every committed `Signal` to `Waiters`, which wakes as many held calls as the change can serve. A
//! wake-up carries no result: a woken call reads the store again. A call registers and enables its notification before
//! the call reads the store, so a change that commits after the read wakes the call.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::store::{Listener, Signal};

/// The lists of all held calls, and the sweeper's timer.
#[derive(Default)]
pub struct Waiters {
    /// The ClaimTask calls that wait for a task. Calls that accept the same tasks share a list: if one call finds no
    /// task, the other calls of the list find no task either.
    pub claims: WaitLists<ClaimCriteria>,
    /// The waiting ClaimTask calls that have a request_id, by RPC and request_id. When the server stores the response
    /// to a call, the duplicates of the call return the stored response.
    pub duplicates: WaitLists<(&'static str, String)>,
    /// The waiting WaitApproval calls, by the key of the approval.
    pub approvals: WaitLists<Key>,
    /// The time at which the sweeper must act next.
    pub due_timer: DueTimer,
}

/// The tasks that a waiting claim accepts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimCriteria {
    /// The key and the repo_path of the run. None means that the claim accepts tasks of any run.
    pub run: Option<(Key, String)>,
    /// The capabilities of the claiming agent.
    pub capabilities: BTreeSet<String>,
}

impl ClaimCriteria {
    fn accepts_run(&self, run_key: Key) -> bool {
        self.run.as_ref().is_none_or(|(key, _)| *key == run_key)
    }

    fn accepts_repo(&self, repo_path: &str) -> bool {
        self.run.as_ref().is_none_or(|(_, repo)| repo == repo_path)
    }
}

impl Waiters {
    /// Returns the callback through which the store reports committed changes.
    pub fn listener(self: &Arc<Self>) -> Listener {
        let waiters = Arc::clone(self);
        Box::new(move |signals| signals.iter().for_each(|signal| waiters.handle(signal)))
    }

    /// Wakes the calls that wait for the change in `signal`, or records the due time in `signal`.
    pub fn handle(&self, signal: &Signal) {
        match signal {
            Signal::Ready { run_key, tasks } => self.claims.notify(*tasks, |claims| claims.accepts_run(*run_key)),
            // Wake only one claim of each list, because the number of tasks that became ready is unknown. If the woken
            // claim finds a task with paths, `Wakeup::report_task` wakes two more claims.
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

/// Lists of held calls, with one list for each key. A key names the change that the calls of a list wait for.
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
        // Ignore lock poisoning. Each change of `lists` is one step, so a panic can't leave `lists` partially updated.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a held call in the list of `key` and returns the waiter. Dropping the waiter removes the call from the
    /// list.
    pub fn register(&self, key: K) -> Waiter<'_, K> {
        let mut lists = self.lock();
        let list = lists.entry(key.clone()).or_insert_with(|| WaitList { notify: Arc::default(), waiters: 0 });
        list.waiters += 1;
        let notify = Arc::clone(&list.notify);
        drop(lists);
        Waiter { lists: self, key, notify }
    }

    /// Returns the number of held calls in all lists.
    pub fn waiter_count(&self) -> usize {
        self.lock().values().map(|list| list.waiters).sum()
    }

    /// Wakes at most `count` calls of each list whose key passes the test `matches`.
    fn notify(&self, count: usize, matches: impl Fn(&K) -> bool) {
        for (_, list) in self.lock().iter().filter(|(key, _)| matches(key)) {
            for _ in 0..count.min(list.waiters) {
                list.notify.notify_one();
            }
        }
    }
}

/// A registered call. If the call is notified and ends before the call reads the store, another call of the list is
/// notified.
pub struct Waiter<'a, K: Clone + Eq + Hash> {
    lists: &'a WaitLists<K>,
    key: K,
    notify: Arc<Notify>,
}

impl<K: Clone + Eq + Hash> Waiter<'_, K> {
    /// Returns a future that completes at the next notification. Call this method before a read that may find no
    /// result. The future receives every notification that is sent after this method returns, even before the first
    /// poll.
    pub fn notified(&self) -> Pin<Box<OwnedNotified>> {
        let mut notified = Box::pin(Arc::clone(&self.notify).notified_owned());
        notified.as_mut().enable();
        notified
    }

    /// Returns the wake-up that the held call has received. Keep the wake-up until a read of the store shows whether
    /// the call found a task.
    pub fn receive_wakeup(&self) -> Wakeup<'_, K> {
        Wakeup { waiter: self, is_passed_on: true }
    }
}

/// A notification that a held call has received. If the notification is dropped without a report, because the caller
/// disconnected or the read failed, another call of the list is woken.
pub struct Wakeup<'a, K: Clone + Eq + Hash> {
    waiter: &'a Waiter<'a, K>,
    is_passed_on: bool,
}

impl<K: Clone + Eq + Hash> Wakeup<'_, K> {
    /// Reports that the call found a task. If the task has paths, the function wakes two more calls of the list. When
    /// the lease of a task with paths ends, only one call of each list is woken, because only a check of every task
    /// would show how many tasks became ready.
    pub fn report_task(mut self, has_paths: bool) {
        self.is_passed_on = false;
        let further_calls = if has_paths { 2 } else { 0 };
        for _ in 0..further_calls {
            self.waiter.notify.notify_one();
        }
    }

    /// Reports that the call found no task. No other call of the list is woken, because the other calls would find no
    /// task either.
    pub fn report_no_task(mut self) {
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

/// The earliest reported time at which the sweeper must act. The inner value is None if no time is recorded.
#[derive(Default)]
pub struct DueTimer {
    time: Mutex<Option<Timestamp>>,
    earlier: Notify,
}

impl DueTimer {
    fn lock(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records `time` as the next due time and wakes the sweeper. If an earlier or equal time is already recorded, the
    /// function does nothing.
    pub fn bring_forward(&self, time: Timestamp) {
        let mut next = self.lock();
        if next.is_none_or(|next| time < next) {
            *next = Some(time);
            self.earlier.notify_one();
        }
    }

    /// Removes the recorded time. Call this method before the sweeper reads the due times from the store. Otherwise the
    /// sweeper could lose a time that is recorded during the read.
    pub fn reset(&self) {
        *self.lock() = None;
    }

    /// Returns the earliest recorded time, or None if no time is recorded.
    pub fn next_time(&self) -> Option<Timestamp> {
        *self.lock()
    }

    /// Waits until `bring_forward` records a time that is earlier than the recorded time, or records a time when no
    /// time is recorded.
    pub async fn wait_until_brought_forward(&self) {
        self.earlier.notified().await;
    }
}

#[cfg(test)]
mod tests;
