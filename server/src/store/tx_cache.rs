//! This module caches the runs that a transaction has read, so that the calls of a group read each run once.

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
    last_seqs: BTreeMap<Key, LastSeq>,
    /// The tasks that were read ahead. None if the transaction reads no task ahead.
    pub(super) tasks_ahead: Option<Box<TasksAhead>>,
    /// Number of times that sequence numbers were assigned.
    assignments: u64,
}

#[derive(Debug, Clone, Copy)]
struct LastSeq {
    value: i64,
    /// Whether the table `run_counters` has an older value.
    is_changed: bool,
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

    /// Forgets the tasks that were read ahead, because this transaction may change any task.
    pub fn forget_tasks(&mut self) {
        if let Some(tasks) = &mut self.tasks_ahead {
            **tasks = TasksAhead::default();
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
        self.last_seqs.get(&run_key).map(|last| last.value)
    }

    /// Caches the last assigned sequence number of a run that the table stores.
    pub fn add_last_seq(&mut self, run_key: Key, value: i64) {
        self.last_seqs.insert(run_key, LastSeq { value, is_changed: false });
    }

    /// Sets the last assigned sequence number of a run.
    pub fn set_last_seq(&mut self, run_key: Key, value: i64) {
        self.last_seqs.insert(run_key, LastSeq { value, is_changed: true });
        self.assignments += 1;
    }

    /// Forgets the sequence numbers of a run that this transaction deletes.
    pub fn forget_last_seq(&mut self, run_key: Key) {
        self.last_seqs.remove(&run_key);
    }

    /// Returns the runs whose last sequence number must be stored, with the number.
    pub fn take_changed_seqs(&mut self) -> Vec<(Key, i64)> {
        let changed = self.last_seqs.iter_mut().filter(|(_, last)| last.is_changed);
        changed
            .map(|(run_key, last)| {
                last.is_changed = false;
                (*run_key, last.value)
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
    fn last_seq_is_stored_once() {
        let mut cache = TxCache::default();
        cache.set_last_seq(1, 5);
        cache.set_last_seq(1, 7);
        cache.set_last_seq(2, 1);
        assert_eq!((cache.find_last_seq(1), cache.assignments()), (Some(7), 3));
        assert_eq!(cache.take_changed_seqs(), [(1, 7), (2, 1)]);
        assert!(cache.take_changed_seqs().is_empty());
        cache.forget_last_seq(1);
        assert_eq!(cache.find_last_seq(1), None);
    }
}
