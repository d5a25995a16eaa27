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
const PAIRS: usize = 200_000;
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
    by_repo: HashMap<String, Rc<[Held]>>,
}

impl<'a> HeldPaths<'a> {
    /// Looks them up when they are needed.
    pub fn new(overlaps: &'a Overlaps) -> Self {
        Self { overlaps, by_repo: HashMap::new() }
    }

    /// The held tasks whose paths overlap with those of a set.
    pub fn all_in_the_way_of(&mut self, tx: &mut dyn Tx, set: Key) -> Result<Vec<Held>> {
        let mut in_the_way = Vec::new();
        for held in self.of_repo_of(tx, set)?.iter() {
            if self.overlaps.between(tx, set, held.path_set_key)? {
                in_the_way.push(*held);
            }
        }
        Ok(in_the_way)
    }

    fn of_repo_of(&mut self, tx: &mut dyn Tx, set: Key) -> Result<Rc<[Held]>> {
        let repo_path = path_sets::repo_path(tx, set)?;
        if let Some(held) = self.by_repo.get(&repo_path) {
            return Ok(Rc::clone(held));
        }
        let held: Rc<[Held]> = path_sets::held(tx, &repo_path)?.into();
        self.by_repo.insert(repo_path, Rc::clone(&held));
        Ok(held)
    }

    /// Nothing held is in the way of a task with these paths.
    pub fn leave_free(&mut self, tx: &mut dyn Tx, set: Option<Key>) -> Result<bool> {
        set.map_or(Ok(true), |set| self.is_free(tx, set))
    }
}

/// For the store, which walks what is ready and knows nothing of globs.
impl IsFree for HeldPaths<'_> {
    fn is_free(&mut self, tx: &mut dyn Tx, set: Key) -> Result<bool> {
        for held in self.of_repo_of(tx, set)?.iter() {
            if self.overlaps.between(tx, set, held.path_set_key)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
