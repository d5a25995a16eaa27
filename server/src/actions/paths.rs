//! Which path sets are in each other's way (C7).

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::Key;
use crate::domain::glob::{self, Glob};
use crate::error::Result;
use crate::store::path_sets::{self, Held};
use crate::store::{IsFree, Tx};

/// Decisions kept at most. They never change, so what is thrown away is only decided again.
const PAIRS: usize = 1_000_000;
/// Bytes of patterns kept in parsed form at most.
const PATTERN_BYTES: usize = 1024 * 1024;

/// Whether two sets overlap, decided once a pair.
#[derive(Default)]
pub struct Overlaps {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    pairs: HashMap<(Key, Key), bool>,
    globs: HashMap<Key, Arc<[Glob]>>,
    pattern_bytes: usize,
}

impl Overlaps {
    /// Some path is in both sets.
    pub fn between(&self, tx: &mut dyn Tx, a: Key, b: Key) -> Result<bool> {
        if a == b {
            return Ok(true);
        }
        let pair = (a.min(b), a.max(b));
        if let Some(known) = self.with(|known| known.pairs.get(&pair).copied()) {
            return Ok(known);
        }
        let (a, b) = (self.globs(tx, a)?, self.globs(tx, b)?);
        let overlap = glob::first_overlap(&a, &b).is_some();
        self.with(|known| {
            if known.pairs.len() >= PAIRS {
                known.pairs.clear();
            }
            known.pairs.insert(pair, overlap);
        });
        Ok(overlap)
    }

    fn globs(&self, tx: &mut dyn Tx, set: Key) -> Result<Arc<[Glob]>> {
        if let Some(known) = self.with(|known| known.globs.get(&set).cloned()) {
            return Ok(known);
        }
        let paths = path_sets::paths(tx, set)?;
        let bytes: usize = paths.iter().map(String::len).sum();
        let globs: Arc<[Glob]> = paths.iter().filter_map(|path| Glob::parse(path).ok()).collect();
        self.with(|known| {
            if known.pattern_bytes + bytes > PATTERN_BYTES {
                known.globs.clear();
                known.pattern_bytes = 0;
            }
            known.pattern_bytes += bytes;
            known.globs.insert(set, Arc::clone(&globs));
        });
        Ok(globs)
    }

    fn with<T>(&self, each: impl FnOnce(&mut Known) -> T) -> T {
        // Whoever panicked with it left decisions behind that are as good as any.
        each(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The paths that are held, as one transaction sees them.
pub struct HeldPaths<'a> {
    overlaps: &'a Overlaps,
    by_run: HashMap<Key, Rc<[Held]>>,
}

impl<'a> HeldPaths<'a> {
    /// Looks them up when they are needed.
    pub fn new(overlaps: &'a Overlaps) -> Self {
        Self { overlaps, by_run: HashMap::new() }
    }

    /// The held tasks whose paths overlap with those of a set of this run.
    pub fn all_in_the_way_of(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key) -> Result<Vec<Held>> {
        self.in_the_way_of(tx, run_key, set, usize::MAX)
    }

    /// Nothing held is in the way of a task of this run with these paths.
    pub fn leave_free(&mut self, tx: &mut dyn Tx, run_key: Key, set: Option<Key>) -> Result<bool> {
        set.map_or(Ok(true), |set| self.is_free(tx, run_key, set))
    }

    fn in_the_way_of(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key, enough: usize) -> Result<Vec<Held>> {
        let mut found = Vec::new();
        for held in self.beside(tx, run_key)?.iter() {
            if found.len() < enough && self.overlaps.between(tx, set, held.path_set_key)? {
                found.push(*held);
            }
        }
        Ok(found)
    }

    /// What is held in the repository of a run.
    fn beside(&mut self, tx: &mut dyn Tx, run_key: Key) -> Result<Rc<[Held]>> {
        if let Some(held) = self.by_run.get(&run_key) {
            return Ok(Rc::clone(held));
        }
        let held: Rc<[Held]> = path_sets::held_beside(tx, run_key)?.into();
        self.by_run.insert(run_key, Rc::clone(&held));
        Ok(held)
    }
}

/// For the store, which walks what is ready and knows nothing of globs.
impl IsFree for HeldPaths<'_> {
    fn is_free(&mut self, tx: &mut dyn Tx, run_key: Key, set: Key) -> Result<bool> {
        Ok(self.in_the_way_of(tx, run_key, set, 1)?.is_empty())
    }
}
