//! This module finds the capability sets that an agent's capabilities cover.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::actions::idle_claims::{Digest, digest};
use crate::domain::Key;
use crate::domain::task::contains_all;
use crate::error::Result;
use crate::store::{Tx, capability_sets};

/// Maximum total number of capability sets in the cached results. A full cache is cleared.
const MAX_CACHED: usize = 100_000;

/// The capability sets of all tasks that have been ready since the start of the server.
#[derive(Default)]
pub struct Capabilities {
    sets: Vec<(Key, Vec<String>)>,
    known: HashSet<Key>,
    /// The cached results, by the digest of the capabilities of an agent.
    covered: HashMap<Digest, Covered>,
    /// Total number of capability sets in `covered`.
    cached: usize,
}

/// The capability sets that the capabilities of an agent cover.
#[derive(Default)]
struct Covered {
    keys: Arc<HashSet<Key>>,
    /// Number of elements of `Capabilities::sets` that `find_covered` has checked.
    checked: usize,
}

impl Capabilities {
    /// Adds the capability set with the key `key`. Returns whether the set is new.
    pub fn add(&mut self, tx: &mut dyn Tx, key: Key) -> Result<bool> {
        if key == capability_sets::NONE || self.known.contains(&key) {
            return Ok(false);
        }
        self.sets.push((key, capability_sets::get(tx, key)?));
        self.known.insert(key);
        Ok(true)
    }

    /// Removes capability sets whose insertion was rolled back, and all cached results.
    pub fn remove(&mut self, keys: &HashSet<Key>) {
        self.sets.retain(|(key, _)| !keys.contains(key));
        self.known.retain(|key| !keys.contains(key));
        self.covered.clear();
        self.cached = 0;
    }

    /// Returns the keys of the sets that contain only capabilities in `capabilities`.
    pub fn find_covered(&mut self, capabilities: &[String]) -> Arc<HashSet<Key>> {
        if self.cached > MAX_CACHED {
            self.covered.clear();
            self.cached = 0;
        }
        let covered = self.covered.entry(digest(capabilities)).or_default();
        if covered.checked < self.sets.len() || covered.keys.is_empty() {
            let keys = Arc::make_mut(&mut covered.keys);
            let before = keys.len();
            keys.insert(capability_sets::NONE);
            let unchecked = self.sets.iter().skip(covered.checked);
            keys.extend(unchecked.filter(|(_, required)| contains_all(capabilities, required)).map(|(key, _)| *key));
            covered.checked = self.sets.len();
            self.cached += keys.len() - before;
        }
        Arc::clone(&covered.keys)
    }
}
