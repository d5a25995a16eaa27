//! When the store commits a change that held calls wait for, this module wakes the calls. The module also stores the
//! time at which the sweeper must act next.
//!
//! The store passes every committed `Signal` to `Waiters`, which wakes as many held calls as the change can serve. A
//! wake-up carries no result: a woken call reads the store again. A call registers and enables its notification before
//! the call reads the store, so a change that commits after the read wakes the call.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
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
    /// The waiting ClaimTask calls that have a request_id. When the server stores the response to a call, the
    /// duplicates of the call return the stored response.
    pub duplicates: WaitLists<CallIdentity>,
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

/// A group of lists of waiting claims that one change notifies together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimGroup {
    /// The claims that accept the tasks of all runs.
    AnyRun,
    /// The claims that accept only the tasks of one run. The value is the key of the run.
    Run(Key),
    /// The claims that accept only the tasks of one run, if the run has this `repo_path`. The value is the `repo_path`.
    Repository(String),
}

impl WaitKey for ClaimCriteria {
    type Group = ClaimGroup;

    fn groups(&self) -> Vec<ClaimGroup> {
        match &self.run {
            None => vec![ClaimGroup::AnyRun],
            Some((key, repo_path)) => vec![ClaimGroup::Run(*key), ClaimGroup::Repository(repo_path.clone())],
        }
    }
}

/// Identifies a call with a request_id, and the duplicates of the call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallIdentity {
    /// Name of the RPC.
    pub rpc: Cow<'static, str>,
    /// The request_id of the call.
    pub request_id: String,
}

impl WaitKey for CallIdentity {
    type Group = Self;

    fn groups(&self) -> Vec<Self> {
        vec![self.clone()]
    }
}

impl WaitKey for Key {
    type Group = Self;

    fn groups(&self) -> Vec<Self> {
        vec![*self]
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
            Signal::Ready { run_key, tasks } => {
                self.claims.notify(&ClaimGroup::AnyRun, *tasks);
                self.claims.notify(&ClaimGroup::Run(*run_key), *tasks);
            }
            // Wake only one claim of each list, because the number of tasks that became ready is unknown. If the woken
            // claim finds a task with paths, `Wakeup::report_task` wakes two more claims.
            Signal::PathsFreed { repo_path } => {
                self.claims.notify(&ClaimGroup::AnyRun, 1);
                self.claims.notify(&ClaimGroup::Repository(repo_path.clone()), 1);
            }
            Signal::RunEnded(key) => self.claims.notify(&ClaimGroup::Run(*key), usize::MAX),
            Signal::Answered { rpc, request_id } => {
                self.duplicates.notify(&CallIdentity { rpc: rpc.clone(), request_id: request_id.clone() }, usize::MAX);
            }
            Signal::Decided(key) => self.approvals.notify(key, usize::MAX),
            Signal::Due(time) => self.due_timer.bring_forward(*time),
            Signal::Anything => {
                self.claims.notify_all();
                self.duplicates.notify_all();
                self.approvals.notify_all();
                self.due_timer.bring_forward(Timestamp::from_micros(0));
            }
        }
    }
}

/// Names the change that the calls of a list wait for.
pub trait WaitKey: Clone + Eq + Hash {
    /// The lists that one change notifies together.
    type Group: Eq + Hash;

    /// Returns the groups to which the list of this key belongs.
    fn groups(&self) -> Vec<Self::Group>;
}

/// Lists of held calls, with one list for each key. A notification finds its lists by their group and does not visit
/// the lists of other groups.
pub struct WaitLists<K: WaitKey> {
    lists: Mutex<Lists<K>>,
}

struct Lists<K: WaitKey> {
    by_key: HashMap<K, WaitList>,
    by_group: HashMap<K::Group, HashSet<K>>,
}

struct WaitList {
    notify: Arc<Notify>,
    waiters: usize,
}

impl<K: WaitKey> Default for WaitLists<K> {
    fn default() -> Self {
        Self { lists: Mutex::new(Lists { by_key: HashMap::new(), by_group: HashMap::new() }) }
    }
}

impl<K: WaitKey> WaitLists<K> {
    fn lock(&self) -> MutexGuard<'_, Lists<K>> {
        // Ignore lock poisoning. Each change of the lists is short and calls no code that can panic.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a held call in the list of `key` and returns the waiter. Dropping the waiter removes the call from the
    /// list.
    pub fn register(&self, key: K) -> Waiter<'_, K> {
        let notify = self.lock().add(&key);
        Waiter { lists: self, key, notify }
    }

    /// Returns the number of held calls in all lists.
    pub fn waiter_count(&self) -> usize {
        self.lock().by_key.values().map(|list| list.waiters).sum()
    }

    /// Wakes at most `count` calls of each list of a group.
    fn notify(&self, group: &K::Group, count: usize) {
        let lists = self.lock();
        let keys = lists.by_group.get(group).into_iter().flatten();
        for list in keys.filter_map(|key| lists.by_key.get(key)) {
            for _ in 0..count.min(list.waiters) {
                list.notify.notify_one();
            }
        }
    }
}

impl<K: WaitKey> WaitLists<K> {
    /// Wakes all calls.
    fn notify_all(&self) {
        self.lock().by_key.values().for_each(|list| list.notify_all());
    }
}

impl WaitList {
    fn notify_all(&self) {
        (0..self.waiters).for_each(|_| self.notify.notify_one());
    }
}

impl<K: WaitKey> Lists<K> {
    fn add(&mut self, key: &K) -> Arc<Notify> {
        if !self.by_key.contains_key(key) {
            for group in key.groups() {
                self.by_group.entry(group).or_default().insert(key.clone());
            }
        }
        let new_list = || WaitList { notify: Arc::default(), waiters: 0 };
        let list = self.by_key.entry(key.clone()).or_insert_with(new_list);
        list.waiters += 1;
        Arc::clone(&list.notify)
    }

    fn remove(&mut self, key: &K) {
        let Some(list) = self.by_key.get_mut(key) else { return };
        list.waiters -= 1;
        if list.waiters > 0 {
            return;
        }
        self.by_key.remove(key);
        for group in key.groups() {
            if let Some(keys) = self.by_group.get_mut(&group) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_group.remove(&group);
                }
            }
        }
    }
}

/// A registered call. If the call is notified and ends before the call reads the store, another call of the list is
/// notified.
pub struct Waiter<'a, K: WaitKey> {
    lists: &'a WaitLists<K>,
    key: K,
    notify: Arc<Notify>,
}

impl<K: WaitKey> Waiter<'_, K> {
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
pub struct Wakeup<'a, K: WaitKey> {
    waiter: &'a Waiter<'a, K>,
    is_passed_on: bool,
}

impl<K: WaitKey> Wakeup<'_, K> {
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

impl<K: WaitKey> Drop for Wakeup<'_, K> {
    fn drop(&mut self) {
        if self.is_passed_on {
            self.waiter.notify.notify_one();
        }
    }
}

impl<K: WaitKey> Drop for Waiter<'_, K> {
    fn drop(&mut self) {
        self.lists.lock().remove(&self.key);
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
