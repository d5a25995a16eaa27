//! Path conflicts: tasks whose paths overlap can't be in progress together (C7).

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::Key;
use crate::domain::glob::{self, Glob};
use crate::error::Result;
use crate::store::path_sets::{self, Held};
use crate::store::{IsFree, Tx};

/// Maximum number of decisions in the cache. Path sets never change, so a dropped decision is only decided again.
const MAX_PAIRS: usize = 1_000_000;
/// Maximum size of the patterns whose parsed form is cached, in bytes.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;

/// Decides whether two path sets overlap, and caches the decisions.
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
    /// Returns whether some path is in both sets.
    pub fn between(&self, tx: &mut dyn Tx, a: Key, b: Key) -> Result<bool> {
        if a == b {
            return Ok(true);
        }
        let pair = (a.min(b), a.max(b));
        if let Some(decided) = self.with(|cache| cache.pairs.get(&pair).copied()) {
            return Ok(decided);
        }
        let a = self.globs(tx, a)?;
        let b = self.globs(tx, b)?;
        let overlap = glob::first_overlap(&a, &b).is_some();
        self.with(|cache| {
            if cache.pairs.len() >= MAX_PAIRS {
                cache.pairs.clear();
            }
            cache.pairs.insert(pair, overlap);
        });
        Ok(overlap)
    }

    fn globs(&self, tx: &mut dyn Tx, set: Key) -> Result<Arc<[Glob]>> {
        if let Some(globs) = self.with(|cache| cache.globs.get(&set).cloned()) {
            return Ok(globs);
        }
        let paths = path_sets::paths(tx, set)?;
        let bytes: usize = paths.iter().map(String::len).sum();
        let globs: Arc<[Glob]> = paths.iter().filter_map(|path| Glob::parse(path).ok()).collect();
        self.with(|cache| {
            if cache.pattern_bytes + bytes > MAX_PATTERN_BYTES {
                cache.globs.clear();
                cache.pattern_bytes = 0;
            }
            cache.pattern_bytes += bytes;
            cache.globs.insert(set, Arc::clone(&globs));
        });
        Ok(globs)
    }

    fn with<T>(&self, each: impl FnOnce(&mut Cache) -> T) -> T {
        // Each entry is valid by itself, so a panic elsewhere leaves a usable cache.
        each(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The paths of tasks in progress, as one transaction sees them. They are read once for each run, on first use.
pub struct HeldPaths<'a> {
    overlaps: &'a Overlaps,
    by_run: HashMap<Key, Rc<[Held]>>,
}

impl<'a> HeldPaths<'a> {
    /// Creates a view that has read nothing yet.
    pub fn new(overlaps: &'a Overlaps) -> Self {
        Self { overlaps, by_run: HashMap::new() }
    }

    /// Returns the held tasks whose paths overlap with a path set of this run.
    pub fn conflicts(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key) -> Result<Vec<Held>> {
        self.first_conflicts(tx, run_key, set, usize::MAX)
    }

    /// Returns whether the held paths allow a task of this run with this path set to start.
    pub fn allow(&mut self, tx: &mut dyn Tx, run_key: Key, set: Option<Key>) -> Result<bool> {
        set.map_or(Ok(true), |set| self.is_free(tx, run_key, set))
    }

    fn first_conflicts(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key, limit: usize) -> Result<Vec<Held>> {
        let mut found = Vec::new();
        for held in self.held_in_repository(tx, run_key)?.iter() {
            if found.len() < limit && self.overlaps.between(tx, set, held.path_set_key)? {
                found.push(*held);
            }
        }
        Ok(found)
    }

    fn held_in_repository(&mut self, tx: &mut dyn Tx, run_key: Key) -> Result<Rc<[Held]>> {
        if let Some(held) = self.by_run.get(&run_key) {
            return Ok(Rc::clone(held));
        }
        let held: Rc<[Held]> = path_sets::held_beside(tx, run_key)?.into();
        self.by_run.insert(run_key, Rc::clone(&held));
        Ok(held)
    }
}

/// Lets the store ask about path sets while it walks the ready tasks, without knowing about globs.
impl IsFree for HeldPaths<'_> {
    fn is_free(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key) -> Result<bool> {
        Ok(self.first_conflicts(tx, run_key, set, 1)?.is_empty())
    }
}
