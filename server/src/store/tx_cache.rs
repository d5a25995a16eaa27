//! This module caches the runs and tasks that a transaction has read, so that the calls of a group read each run once and
//! several tasks together.

use std::collections::{BTreeMap, HashMap};

use super::runs::RunState;
use super::tasks_ahead::TasksAhead;
use crate::domain::Key;

/// The rows that a transaction has read or changed. No other transaction can change the rows before this transaction
/// ends, because the transactions of all writers follow each other.
#[derive(Debug, Clone, Default)]
pub struct TxCache {
    states: HashMap<Key, RunState>,
    keys: HashMap<String, Key>,
    counters: BTreeMap<Key, RunCounters>,
    /// The tasks that were read ahead. None if the transaction reads no task ahead.
    pub(super) tasks_ahead: Option<Box<TasksAhead>>,
    /// Number of times that sequence numbers were assigned.
    assignments: u64,
}

/// The counters of a run that the transaction has read or changed.
#[derive(Debug, Clone, Copy)]
struct RunCounters {
    last_seq: i64,
    /// Key of the attempt that the newest claim of this transaction has opened in the run.
    last_served: Option<Key>,
    /// Whether the table `run_counters` has older values.
    is_changed: bool,
}

/// The counters of a run that this transaction has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ChangedCounters {
    pub run_key: Key,
    pub last_seq: i64,
    /// The new value of `last_served`, or None if this transaction does not change the value.
    pub last_served: Option<Key>,
}

impl TxCache {
    /// Returns the state of the run with the id `id`, if it is cached.
    pub fn find_state(&self, id: &str) -> Option<RunState> {
        self.keys.get(id).and_then(|key| self.find_state_by_key(*key))
    }

    /// Returns the state of the run with the key `key`, if it is cached.
    pub fn find_state_by_key(&self, key: Key) -> Option<RunState> {
        self.states.get(&key).copied()
    }

    /// Caches the state of a run.
    pub fn add_state(&mut self, id: Option<&str>, state: RunState) {
        self.states.insert(state.key, state);
        if let Some(id) = id {
            self.keys.insert(id.to_owned(), state.key);
        }
    }

    /// Lets the transaction read tasks ahead from now on. `claims` holds the number of claims in the transaction by the
    /// key of the run. Returns the tasks that were read ahead, which are none.
    pub fn start_reading_ahead(&mut self, claims: HashMap<Key, usize>) -> &mut TasksAhead {
        self.tasks_ahead.insert(Box::new(TasksAhead::new(claims)))
    }

    /// Forgets the tasks that were read ahead, because this transaction may change any task.
    pub fn forget_tasks(&mut self) {
        if let Some(tasks) = &mut self.tasks_ahead {
            tasks.forget();
        }
    }

    /// Forgets the state of a run that this transaction changes.
    pub fn forget_state(&mut self, key: Key) {
        self.states.remove(&key);
    }

    /// Forgets the states of all runs, because this transaction changes many runs.
    pub fn forget_all_states(&mut self) {
        self.states.clear();
    }

    /// Returns the last assigned sequence number of a run, if it is cached.
    pub fn find_last_seq(&self, run_key: Key) -> Option<i64> {
        self.counters.get(&run_key).map(|counters| counters.last_seq)
    }

    /// Caches the last assigned sequence number of a run that the table stores.
    pub fn add_last_seq(&mut self, run_key: Key, value: i64) {
        self.counters.insert(run_key, RunCounters { last_seq: value, last_served: None, is_changed: false });
    }

    /// Sets the last assigned sequence number of a run.
    pub fn set_last_seq(&mut self, run_key: Key, value: i64) {
        let last_served = self.find_last_served(run_key);
        self.counters.insert(run_key, RunCounters { last_seq: value, last_served, is_changed: true });
        self.assignments += 1;
    }

    /// Returns the key of the attempt that the newest claim of this transaction has opened in a run, if there is one.
    pub fn find_last_served(&self, run_key: Key) -> Option<Key> {
        self.counters.get(&run_key)?.last_served
    }

    /// Sets the key of the attempt that a claim has opened in a run. The claim must have assigned a sequence number.
    pub fn set_last_served(&mut self, run_key: Key, attempt_key: Key) {
        if let Some(counters) = self.counters.get_mut(&run_key) {
            counters.last_served = Some(attempt_key);
        }
    }

    /// Forgets the counters of a run that this transaction deletes.
    pub fn forget_counters(&mut self, run_key: Key) {
        self.counters.remove(&run_key);
    }

    /// Returns the counters that must be stored.
    pub fn take_changed_counters(&mut self) -> Vec<ChangedCounters> {
        let changed = self.counters.iter_mut().filter(|(_, counters)| counters.is_changed);
        changed
            .map(|(run_key, counters)| {
                counters.is_changed = false;
                ChangedCounters { run_key: *run_key, last_seq: counters.last_seq, last_served: counters.last_served }
            })
            .collect()
    }

    /// Returns how often sequence numbers were assigned. A body that has assigned numbers has changed the transaction.
    pub fn assignments(&self) -> u64 {
        self.assignments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::RunStatus;
    use crate::store::runs::StatusAndGrace;

    fn state(key: Key) -> RunState {
        RunState { key, status: StatusAndGrace { status: RunStatus::Running, grace_end_time: None } }
    }

    #[test]
    fn changed_run_is_read_again() {
        let mut cache = TxCache::default();
        cache.add_state(Some("a"), state(1));
        cache.add_state(None, state(2));
        assert_eq!((cache.find_state("a"), cache.find_state_by_key(2)), (Some(state(1)), Some(state(2))));
        cache.forget_state(1);
        assert_eq!((cache.find_state("a"), cache.find_state_by_key(2)), (None, Some(state(2))));
        cache.forget_all_states();
        assert_eq!(cache.find_state_by_key(2), None);
    }

    #[test]
    fn counters_are_stored_once() {
        let mut cache = TxCache::default();
        cache.set_last_seq(1, 5);
        cache.set_last_served(1, 9);
        cache.set_last_seq(1, 7);
        cache.set_last_seq(2, 1);
        assert_eq!((cache.find_last_seq(1), cache.assignments()), (Some(7), 3));
        let changed = [
            ChangedCounters { run_key: 1, last_seq: 7, last_served: Some(9) },
            ChangedCounters { run_key: 2, last_seq: 1, last_served: None },
        ];
        assert_eq!(cache.take_changed_counters(), changed);
        assert!(cache.take_changed_counters().is_empty());
        assert_eq!(cache.find_last_served(1), Some(9));
        cache.forget_counters(1);
        assert_eq!(cache.find_last_seq(1), None);
    }
}
