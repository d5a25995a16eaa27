//! This module prevents path conflicts: tasks whose paths overlap can't be leased at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::Key;
use crate::domain::glob::{Glob, GlobSet, Overlap};
use crate::error::Result;
use crate::store::Tx;
use crate::store::path_sets::{self, LeasedTask};

/// Maximum number of cached decisions. A full cache is cleared. Clearing the cache is safe, because path sets never
/// change and each decision can be computed again.
const MAX_PAIRS: usize = 500_000;
/// Maximum total size of the patterns whose parsed forms are cached, in bytes.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;
/// Maximum total size of the patterns of a path set that the writer's transactions compare, in bytes. Larger path sets
/// are compared on a reader, because all calls wait for the writer.
const SMALL_SET_BYTES: usize = 512;
/// Time after which a reader that compares path sets pauses, so that other reads can use the reader's connection.
const SLICE: Duration = Duration::from_millis(20);

/// A cache that stores whether two path sets overlap.
#[derive(Default)]
pub struct Overlaps {
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    pairs: HashMap<(Key, Key), Decision>,
    sets: HashMap<Key, ParsedSet>,
    pattern_bytes: usize,
}

#[derive(Clone)]
struct ParsedSet {
    globs: Arc<GlobSet>,
    pattern_bytes: usize,
}

/// The decision about two path sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the path sets overlap. If the decision needs too much work, the path sets count as overlapping.
    pub overlaps: bool,
    /// Whether the decision needs too much work.
    pub is_cut: bool,
}

const DISJOINT: Decision = Decision { overlaps: false, is_cut: false };

/// Path sets that a transaction could not compare itself, because a comparison can take several milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided {
    /// The path sets of tasks that a caller wants to start.
    pub sets: Vec<Key>,
    /// The path sets of leased tasks. Each path set in `sets` is compared with the path sets in `leased`, in this
    /// order, until a path set in `leased` overlaps.
    pub leased: Vec<Key>,
}

/// The result of the comparison of a task's path set with the path sets of the leased tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathCheck {
    /// No leased task has overlapping paths.
    Free,
    /// The path set of a leased task overlaps. The value is the key of that path set.
    Blocked(Key),
    /// The comparison exceeds the limit of the transaction. The caller passes the path sets to
    /// `Overlaps::decide_slice`.
    Undecided,
}

/// Returns the maximum number of path sets of one `Undecided`, if `leased` path sets of leased tasks are compared with
/// each of them. With more path sets, the cache could lose decisions before the caller uses them.
pub fn max_undecided_sets(leased: usize) -> usize {
    (MAX_PAIRS / 4 / leased.max(1)).max(1)
}

/// The number of pairs of small path sets that a transaction may still compare.
#[derive(Debug)]
pub struct PairLimit(usize);

impl Default for PairLimit {
    /// Returns the limit of one transaction, which allows about half a millisecond of work.
    fn default() -> Self {
        Self(64)
    }
}

impl Overlaps {
    /// Checks whether one of the path sets `leased` overlaps with `set`. The function compares at most `limit` pairs of
    /// small path sets, and otherwise uses only cached decisions.
    pub fn check(
        &self,
        tx: &mut dyn Tx,
        set: Key,
        leased: impl Iterator<Item = Key> + Clone,
        limit: &mut PairLimit,
    ) -> Result<PathCheck> {
        if let Some(blocker) = self.find_cached_blocker(set, leased.clone()) {
            return Ok(PathCheck::Blocked(blocker));
        }
        for other in leased {
            match self.decide_small(tx, set, other, limit)? {
                Some(Decision { overlaps: true, .. }) => return Ok(PathCheck::Blocked(other)),
                Some(Decision { overlaps: false, .. }) => {}
                None => return Ok(PathCheck::Undecided),
            }
        }
        Ok(PathCheck::Free)
    }

    fn find_cached_blocker(&self, set: Key, mut leased: impl Iterator<Item = Key>) -> Option<Key> {
        let cache = self.lock();
        leased.find(|other| cache.find_decision(set, *other).is_some_and(|decision| decision.overlaps))
    }

    /// Returns the decision about two path sets. Returns None if the decision is not cached and the path sets are too
    /// large for the transaction, or if `limit` is used up.
    fn decide_small(&self, tx: &mut dyn Tx, a: Key, b: Key, limit: &mut PairLimit) -> Result<Option<Decision>> {
        if let Some(known) = self.find_decision(a, b) {
            return Ok(Some(known));
        }
        if limit.0 == 0 {
            return Ok(None);
        }
        limit.0 -= 1;
        let (Some(one), Some(other)) = (self.load(tx, a)?, self.load(tx, b)?) else { return Ok(Some(DISJOINT)) };
        if one.pattern_bytes.max(other.pattern_bytes) > SMALL_SET_BYTES {
            return Ok(None);
        }
        Ok(Some(self.compare(tx, (a, &one), (b, &other))))
    }

    /// Returns the decision about two path sets. The decision can take several milliseconds, so the function must only
    /// run on a reader.
    pub fn decide(&self, tx: &mut dyn Tx, a: Key, b: Key) -> Result<Decision> {
        if let Some(known) = self.find_decision(a, b) {
            return Ok(known);
        }
        // A path set that no longer exists belongs to no task.
        let (Some(one), Some(other)) = (self.load(tx, a)?, self.load(tx, b)?) else { return Ok(DISJOINT) };
        Ok(self.compare(tx, (a, &one), (b, &other)))
    }

    /// Returns whether the decision about two path sets is cached.
    pub fn is_decided(&self, a: Key, b: Key) -> bool {
        self.find_decision(a, b).is_some()
    }

    fn compare(&self, tx: &dyn Tx, (a, one): (Key, &ParsedSet), (b, other): (Key, &ParsedSet)) -> Decision {
        let overlap = one.globs.find_overlap(&other.globs);
        let decision = Decision { overlaps: overlap != Overlap::None, is_cut: matches!(overlap, Overlap::Cut(..)) };
        if is_permanent(tx, a.max(b)) {
            self.lock().insert_decision(a, b, decision);
        }
        decision
    }

    /// Compares path sets that a transaction could not compare, and caches the decisions, for about 20 ms. `from` is
    /// the number of elements of `undecided.sets` that are decided already. Returns the number of elements that are
    /// decided afterwards. The decisions about the next element are cached, so the next call continues with the
    /// remaining decisions. The function must only run on a reader.
    pub fn decide_slice(&self, tx: &mut dyn Tx, undecided: &Undecided, from: usize) -> Result<usize> {
        let start = Instant::now();
        for (at, set) in undecided.sets.iter().enumerate().skip(from) {
            for other in &undecided.leased {
                if start.elapsed() >= SLICE {
                    return Ok(at);
                }
                if self.decide(tx, *set, *other)?.overlaps {
                    break;
                }
            }
        }
        Ok(undecided.sets.len())
    }

    fn find_decision(&self, a: Key, b: Key) -> Option<Decision> {
        self.lock().find_decision(a, b)
    }

    /// Returns the globs of a path set, or None if the path set does not exist.
    fn load(&self, tx: &mut dyn Tx, set: Key) -> Result<Option<ParsedSet>> {
        if let Some(parsed) = self.lock().sets.get(&set) {
            return Ok(Some(parsed.clone()));
        }
        let Some(paths) = path_sets::find_paths(tx, set)? else { return Ok(None) };
        let pattern_bytes = paths.iter().map(String::len).sum();
        let globs = GlobSet::new(paths.iter().filter_map(|path| Glob::parse(path).ok()).collect());
        let parsed = ParsedSet { globs: Arc::new(globs), pattern_bytes };
        if is_permanent(tx, set) {
            self.lock().insert_set(set, parsed.clone());
        }
        Ok(Some(parsed))
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // If another thread panicked while holding the cache's lock, the cache is still usable, because each cache
        // entry is valid by itself.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a key can be cached: the row with the key is committed, so the key never gets another meaning.
fn is_permanent(tx: &dyn Tx, key: Key) -> bool {
    key <= tx.transaction().committed_key
}

impl Cache {
    fn find_decision(&self, a: Key, b: Key) -> Option<Decision> {
        if a == b {
            return Some(Decision { overlaps: true, ..DISJOINT });
        }
        self.pairs.get(&(a.min(b), a.max(b))).copied()
    }

    fn insert_decision(&mut self, a: Key, b: Key, decision: Decision) {
        if self.pairs.len() >= MAX_PAIRS {
            self.pairs.clear();
        }
        self.pairs.insert((a.min(b), a.max(b)), decision);
    }

    fn insert_set(&mut self, key: Key, set: ParsedSet) {
        if self.pattern_bytes + set.pattern_bytes > MAX_PATTERN_BYTES {
            self.sets.clear();
            self.pattern_bytes = 0;
        }
        self.pattern_bytes += set.pattern_bytes;
        self.sets.insert(key, set);
    }
}

/// The leased tasks with paths, as one read transaction sees them. The first check of a run reads the tasks, and later
/// checks of the run reuse the tasks.
#[derive(Default)]
pub struct LeasedTasks {
    by_run: HashMap<Key, Arc<[LeasedTask]>>,
}

impl LeasedTasks {
    /// Returns the leased tasks with paths in the repository of a run.
    pub fn list(&mut self, tx: &mut dyn Tx, run_key: Key) -> Result<Arc<[LeasedTask]>> {
        if let Some(leased) = self.by_run.get(&run_key) {
            return Ok(Arc::clone(leased));
        }
        let leased: Arc<[LeasedTask]> = path_sets::list_leased_in_repository(tx, run_key)?.into();
        self.by_run.insert(run_key, Arc::clone(&leased));
        Ok(leased)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If the decisions of one `Undecided` did not fit into the cache, a claim could be postponed forever.
    #[test]
    fn decisions_of_one_undecided_fit_into_a_quarter_of_the_cache() {
        for leased in [0, 1, 30, 1_000, 100_000] {
            let sets = max_undecided_sets(leased);
            assert!(sets >= 1 && sets * leased <= MAX_PAIRS / 4, "{sets} sets and {leased} leased path sets");
        }
        assert_eq!(max_undecided_sets(1_000_000), 1);
    }
}
