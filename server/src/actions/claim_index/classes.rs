//! This module keeps the classes of ready tasks in claim order.
//!
//! The order may rank a class too early, but never too late: the rank of a class may precede the rank of the class's
//! first ready task, but never follows that rank. A change that makes a task less claimable, such as a claim, therefore
//! needs no update of the classes. A claim checks the first class in the store, corrects the class, and looks again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use super::leased_paths::LeasedPaths;
use crate::domain::Key;
use crate::domain::run::RunStatus;
use crate::store::ready::{Rank, ReadyClass, TaskClass};
use crate::store::runs::ClaimState;

/// The classes of all runs.
#[derive(Default)]
pub struct Classes {
    /// The classes of each run, by the capabilities that the tasks require.
    lists_by_key: BTreeMap<ListKey, ClassList>,
    /// For each capability set, the first class of each run whose tasks can be claimed, in the claim order over all
    /// runs.
    order: HashMap<Key, BTreeSet<RunRank>>,
    runs: BTreeMap<Key, ClaimState>,
    /// The lists_by_key with classes that the path set of a leased task blocks, by the key of that path set.
    blocked: HashMap<Key, BTreeSet<ListKey>>,
    pub leased: LeasedPaths,
}

/// Identifies the tasks of a run that require equal capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ListKey {
    run_key: Key,
    capability_set_key: Key,
}

impl ListKey {
    fn of(class: &TaskClass) -> Self {
        Self { run_key: class.run_key, capability_set_key: class.capability_set_key }
    }

    fn class(&self, path_set_key: Option<Key>) -> TaskClass {
        TaskClass { run_key: self.run_key, capability_set_key: self.capability_set_key, path_set_key }
    }
}

/// The classes of one run and one capability set.
#[derive(Default)]
struct ClassList {
    classes: HashMap<Option<Key>, Place>,
    /// The path set keys of the classes in claim order, by the path set that blocks them. The key None holds the
    /// classes that are not known to be blocked.
    ranked: BTreeMap<Option<Key>, BTreeSet<(Rank, Option<Key>)>>,
    /// The entry of the list in `Classes::order`.
    listed_as: Option<RunRank>,
}

/// The place of a class in `ClassList::ranked`.
#[derive(Debug, Clone, Copy)]
struct Place {
    rank: Rank,
    blocker: Option<Key>,
}

/// The place of a run in the claim order over all runs: by priority, then by the least recently served run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RunRank {
    priority: std::cmp::Reverse<i32>,
    last_served: i64,
    run_key: Key,
    ordinal: i32,
}

impl Classes {
    /// Records that a class has a ready task with the rank `ready.rank`. The run of the class must be known.
    pub fn add(&mut self, ready: &ReadyClass) {
        let key = ListKey::of(&ready.class);
        let path_set = ready.class.path_set_key;
        let list = self.lists_by_key.entry(key).or_default();
        let place = list.classes.get(&path_set).copied();
        if place.is_some_and(|place| place.rank <= ready.rank) {
            return;
        }
        list.remove(path_set);
        list.insert(path_set, Place { rank: ready.rank, blocker: place.and_then(|place| place.blocker) });
        self.update_order(key);
    }

    /// Sets the rank of a class to the rank of the class's first ready task.
    pub fn set_rank(&mut self, class: &TaskClass, rank: Rank) {
        let key = ListKey::of(class);
        let Some(list) = self.lists_by_key.get_mut(&key) else { return };
        let Some(place) = list.remove(class.path_set_key) else { return };
        list.insert(class.path_set_key, Place { rank, ..place });
        self.update_order(key);
    }

    /// Removes a class that has no ready task.
    pub fn remove(&mut self, class: &TaskClass) {
        let key = ListKey::of(class);
        let Some(list) = self.lists_by_key.get_mut(&key) else { return };
        let Some(place) = list.remove(class.path_set_key) else { return };
        self.remove_unused_blocker(key, place.blocker);
        self.update_order(key);
        self.lists_by_key.retain_key(&key, |list| !list.classes.is_empty());
    }

    /// Records that the path set `blocker` of a leased task overlaps with the paths of a class.
    pub fn block(&mut self, class: &TaskClass, blocker: Key) {
        let key = ListKey::of(class);
        let Some(list) = self.lists_by_key.get_mut(&key) else { return };
        let Some(place) = list.remove(class.path_set_key) else { return };
        list.insert(class.path_set_key, Place { blocker: Some(blocker), ..place });
        self.remove_unused_blocker(key, place.blocker);
        self.blocked.entry(blocker).or_default().insert(key);
        self.update_order(key);
    }

    /// Removes a list from `blocked` if the list has no classes that `blocker` has blocked.
    fn remove_unused_blocker(&mut self, key: ListKey, blocker: Option<Key>) {
        let Some(set) = blocker else { return };
        if self.lists_by_key.get(&key).is_none_or(|list| !list.ranked.contains_key(&blocker)) {
            self.blocked.retain_key(&set, |keys| {
                keys.remove(&key);
                !keys.is_empty()
            });
        }
    }

    /// Records whether an agent holds a lease on a task with the path set `set`.
    pub fn set_leased(&mut self, set: Key, repo_path: &str, is_leased: bool) {
        self.leased.set(set, repo_path, is_leased);
        if is_leased {
            return;
        }
        let keys: Vec<ListKey> = self.blocked.get(&set).into_iter().flatten().copied().collect();
        for key in keys {
            self.update_order(key);
        }
    }

    /// Undoes the correction of a class, because the transaction of the correction was rolled back. `ready` is the
    /// class before the correction.
    pub fn restore(&mut self, ready: &ReadyClass) {
        let key = ListKey::of(&ready.class);
        let list = self.lists_by_key.entry(key).or_default();
        let place = list.remove(ready.class.path_set_key);
        let rank = place.map_or(ready.rank, |place| place.rank.min(ready.rank));
        list.insert(ready.class.path_set_key, Place { rank, blocker: None });
        self.remove_unused_blocker(key, place.and_then(|place| place.blocker));
        self.update_order(key);
    }

    /// Returns the status of a run, or None if the claim state of the run is not known.
    pub fn run_status(&self, run_key: Key) -> Option<RunStatus> {
        self.runs.get(&run_key).map(|run| run.status)
    }

    /// Returns the number of known runs.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Returns the first known run with a key greater than `after`, or the first known run if there is no such run.
    pub fn run_after(&self, after: Key) -> Option<Key> {
        let after = (Bound::Excluded(after), Bound::Unbounded);
        self.runs.range(after).next().or_else(|| self.runs.first_key_value()).map(|(key, _)| *key)
    }

    /// Returns the path of the repository of a known run.
    pub fn repo_path(&self, run_key: Key) -> Option<&str> {
        self.runs.get(&run_key).map(|run| run.repo_path.as_str())
    }

    /// Sets the claim state of a run. Returns whether the claim state has changed.
    pub fn set_run(&mut self, run: ClaimState) -> bool {
        let run_key = run.key;
        if self.runs.get(&run_key) == Some(&run) {
            return false;
        }
        self.runs.insert(run_key, run);
        for key in self.list_keys_of(run_key) {
            self.update_order(key);
        }
        true
    }

    /// Records that a run was deleted. Returns whether the run was known and not deleted.
    pub fn set_deleted(&mut self, run_key: Key) -> bool {
        let Some(run) = self.runs.get(&run_key).cloned() else { return false };
        self.set_run(ClaimState { status: RunStatus::Cancelled, ..run })
    }

    /// Removes a run and the classes of the run.
    pub fn remove_run(&mut self, run_key: Key) {
        self.runs.remove(&run_key);
        for key in self.list_keys_of(run_key) {
            self.update_order(key);
            let removed = self.lists_by_key.remove(&key);
            for blocker in removed.iter().flat_map(|list| list.ranked.keys()) {
                self.remove_unused_blocker(key, *blocker);
            }
        }
    }

    /// Returns the first class in the claim order of a run whose capability set is in `covered`, or None if there is no
    /// such class.
    pub fn first_of_run(&self, run_key: Key, covered: &HashSet<Key>) -> Option<ReadyClass> {
        let covered = self.lists_of(run_key).filter(|(key, _)| covered.contains(&key.capability_set_key));
        let firsts = covered.filter_map(|(key, list)| {
            let (rank, path_set) = list.first(&self.leased)?;
            Some(ReadyClass { class: key.class(path_set), rank })
        });
        firsts.min_by_key(|first| first.rank)
    }

    /// Returns the first class in the claim order over all runs whose capability set is in `covered`, or None if there
    /// is no such class.
    pub fn first_of_all(&mut self, covered: &HashSet<Key>) -> Option<ReadyClass> {
        loop {
            let of_covered = self.order.iter().filter(|(set, _)| covered.contains(set));
            let (first, set) = of_covered.filter_map(|(set, runs)| Some((*runs.first()?, *set))).min()?;
            let key = ListKey { run_key: first.run_key, capability_set_key: set };
            let list = self.lists_by_key.get(&key)?;
            // A lease that began after the entry was made can block the class of the entry.
            match list.first(&self.leased) {
                Some((rank, path_set)) if rank.priority == first.priority && rank.ordinal == first.ordinal => {
                    return Some(ReadyClass { class: key.class(path_set), rank });
                }
                _ => self.update_order(key),
            }
        }
    }

    /// Returns the path set of a class, and further path sets in the list of the class that are not known to be
    /// blocked. Returns at most `count` path sets.
    pub fn list_path_sets(&self, class: &TaskClass, count: usize) -> Vec<Key> {
        let list = self.lists_by_key.get(&ListKey::of(class));
        let candidates = list.into_iter().flat_map(|list| list.candidates(&self.leased));
        let others = candidates.flatten().filter_map(|(_, path_set)| *path_set);
        class.path_set_key.into_iter().chain(others).take(count).collect()
    }

    fn lists_of(&self, run_key: Key) -> impl Iterator<Item = (&ListKey, &ClassList)> {
        let first = ListKey { run_key, capability_set_key: Key::MIN };
        let last = ListKey { run_key, capability_set_key: Key::MAX };
        self.lists_by_key.range((Bound::Included(first), Bound::Included(last)))
    }

    fn list_keys_of(&self, run_key: Key) -> Vec<ListKey> {
        self.lists_of(run_key).map(|(key, _)| *key).collect()
    }

    /// Updates the entry of a list in `order`.
    fn update_order(&mut self, key: ListKey) {
        let Some(list) = self.lists_by_key.get_mut(&key) else { return };
        let run = self.runs.get(&key.run_key).filter(|run| run.status.allows_claims());
        let first = list.first(&self.leased);
        let entry = run.zip(first).map(|(run, (rank, _))| RunRank {
            priority: rank.priority,
            last_served: run.last_served,
            run_key: key.run_key,
            ordinal: rank.ordinal,
        });
        if entry == list.listed_as {
            return;
        }
        let before = std::mem::replace(&mut list.listed_as, entry);
        let runs = self.order.entry(key.capability_set_key).or_default();
        if let Some(before) = before {
            runs.remove(&before);
        }
        runs.extend(entry);
        self.order.retain_key(&key.capability_set_key, |runs| !runs.is_empty());
    }
}

impl ClassList {
    fn insert(&mut self, path_set: Option<Key>, place: Place) {
        self.classes.insert(path_set, place);
        self.ranked.entry(place.blocker).or_default().insert((place.rank, path_set));
    }

    fn remove(&mut self, path_set: Option<Key>) -> Option<Place> {
        let place = self.classes.remove(&path_set)?;
        self.ranked.retain_key(&place.blocker, |list| {
            list.remove(&(place.rank, path_set));
            !list.is_empty()
        });
        Some(place)
    }

    /// Returns the lists of the classes that are not blocked, or whose blocking lease has ended.
    fn candidates(&self, leased: &LeasedPaths) -> impl Iterator<Item = &BTreeSet<(Rank, Option<Key>)>> {
        let candidates = self.ranked.iter().filter(|(blocker, _)| !blocker.is_some_and(|set| leased.contains(set)));
        candidates.map(|(_, list)| list)
    }

    fn first(&self, leased: &LeasedPaths) -> Option<(Rank, Option<Key>)> {
        self.candidates(leased).filter_map(|list| list.first().copied()).min()
    }
}

/// Removes an entry of a map if the entry does not meet a condition.
trait RetainKey<K, V> {
    fn retain_key(&mut self, key: &K, keep: impl FnOnce(&mut V) -> bool);
}

impl<K: std::hash::Hash + Eq, V> RetainKey<K, V> for HashMap<K, V> {
    fn retain_key(&mut self, key: &K, keep: impl FnOnce(&mut V) -> bool) {
        if self.get_mut(key).is_some_and(|value| !keep(value)) {
            self.remove(key);
        }
    }
}

impl<K: Ord, V> RetainKey<K, V> for BTreeMap<K, V> {
    fn retain_key(&mut self, key: &K, keep: impl FnOnce(&mut V) -> bool) {
        if self.get_mut(key).is_some_and(|value| !keep(value)) {
            self.remove(key);
        }
    }
}
