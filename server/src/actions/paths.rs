//! This module prevents path conflicts: tasks whose paths overlap can't be leased at the same time.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::Key;
use crate::domain::glob::{self, Glob};
use crate::error::Result;
use crate::store::path_sets::{self, LeasedTask};
use crate::store::{PathSetChecker, Tx};

/// Maximum number of cached decisions. A full cache is cleared. Clearing the cache is safe, because path sets never
/// change and each decision can be computed again.
const MAX_PAIRS: usize = 1_000_000;
/// Maximum total size of the patterns whose parsed forms are cached, in bytes.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;

/// A cache that stores whether two path sets overlap. The decision for a new pair is computed on first use.
#[derive(Default)]
pub struct Overlaps {
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    pairs: HashMap<(Key, Key), bool>,
    globs: HashMap<Key, Arc<[Glob]>>,
    pattern_bytes: usize,
}

impl Overlaps {
    /// Returns whether at least one path matches patterns of the path sets `a` and `b`.
    pub fn are_overlapping(&self, tx: &mut dyn Tx, a: Key, b: Key) -> Result<bool> {
        if a == b {
            return Ok(true);
        }
        let pair = (a.min(b), a.max(b));
        if let Some(decided) = self.with_cache(|cache| cache.pairs.get(&pair).copied()) {
            return Ok(decided);
        }
        let a = self.load_globs(tx, a)?;
        let b = self.load_globs(tx, b)?;
        let overlap = glob::first_overlap(&a, &b).is_some();
        self.with_cache(|cache| {
            if cache.pairs.len() >= MAX_PAIRS {
                cache.pairs.clear();
            }
            cache.pairs.insert(pair, overlap);
        });
        Ok(overlap)
    }

    fn load_globs(&self, tx: &mut dyn Tx, set: Key) -> Result<Arc<[Glob]>> {
        if let Some(globs) = self.with_cache(|cache| cache.globs.get(&set).cloned()) {
            return Ok(globs);
        }
        let paths = path_sets::get_paths(tx, set)?;
        let bytes: usize = paths.iter().map(String::len).sum();
        let globs: Arc<[Glob]> = paths.iter().filter_map(|path| Glob::parse(path).ok()).collect();
        self.with_cache(|cache| {
            if cache.pattern_bytes + bytes > MAX_PATTERN_BYTES {
                cache.globs.clear();
                cache.pattern_bytes = 0;
            }
            cache.pattern_bytes += bytes;
            cache.globs.insert(set, Arc::clone(&globs));
        });
        Ok(globs)
    }

    fn with_cache<T>(&self, each: impl FnOnce(&mut Cache) -> T) -> T {
        // If another thread panicked while holding the cache's lock, the cache is still usable, because each cache
        // entry is valid by itself.
        each(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One transaction's view of the path sets of the leased tasks. The first check of a run reads the path sets, and later
/// checks of the run reuse the path sets.
pub struct HeldPaths<'a> {
    overlaps: &'a Overlaps,
    by_run: HashMap<Key, Rc<[LeasedTask]>>,
}

impl<'a> HeldPaths<'a> {
    /// Returns an empty view. The first check of a run fills the view with path sets.
    pub fn new(overlaps: &'a Overlaps) -> Self {
        Self { overlaps, by_run: HashMap::new() }
    }

    /// Returns the leased tasks in the run's repository whose path sets overlap with `set`.
    pub fn conflicts(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key) -> Result<Vec<LeasedTask>> {
        self.find_conflicts(tx, run_key, set, usize::MAX)
    }

    /// Returns whether a task of the run `run_key` with the path set `set` can start. Returns true if `set` is None, or
    /// if no leased task has a path set that overlaps with `set`.
    pub fn allows_start(&mut self, tx: &mut dyn Tx, run_key: Key, set: Option<Key>) -> Result<bool> {
        set.map_or(Ok(true), |set| self.is_free(tx, run_key, set))
    }

    fn find_conflicts(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key, limit: usize) -> Result<Vec<LeasedTask>> {
        let mut found = Vec::new();
        for held in self.read_leased_tasks(tx, run_key)?.iter() {
            if found.len() < limit && self.overlaps.are_overlapping(tx, set, held.path_set_key)? {
                found.push(*held);
            }
        }
        Ok(found)
    }

    fn read_leased_tasks(&mut self, tx: &mut dyn Tx, run_key: Key) -> Result<Rc<[LeasedTask]>> {
        if let Some(held) = self.by_run.get(&run_key) {
            return Ok(Rc::clone(held));
        }
        let held: Rc<[LeasedTask]> = path_sets::list_leased_in_repository(tx, run_key)?.into();
        self.by_run.insert(run_key, Rc::clone(&held));
        Ok(held)
    }
}

/// Checks path sets for `store::ready`, because the store can't parse glob patterns.
impl PathSetChecker for HeldPaths<'_> {
    fn is_free(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key) -> Result<bool> {
        Ok(self.find_conflicts(tx, run_key, set, 1)?.is_empty())
    }
}
