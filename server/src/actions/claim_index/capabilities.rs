//! This module finds the capability sets that an agent's capabilities cover.

use std::collections::{HashMap, HashSet};

use crate::domain::Key;
use crate::domain::task::contains_all;
use crate::error::Result;
use crate::store::{Tx, capability_sets};

/// Maximum number of different lists of capabilities for which the covered sets are cached. A full cache is cleared.
const MAX_CACHED: usize = 1_000;

/// The capability sets of all tasks that have been ready since the start of the server.
#[derive(Default)]
pub struct Capabilities {
    sets: Vec<(Key, Vec<String>)>,
    known: HashSet<Key>,
    /// Maps the capabilities of an agent to a number `n` and the keys of the covered sets among the first `n` elements
    /// of `sets`. `find_covered` has not checked the later elements yet.
    covered: HashMap<Vec<String>, (usize, HashSet<Key>)>,
}

impl Capabilities {
    /// Adds the capability set with the key `key`.
    pub fn add(&mut self, tx: &mut dyn Tx, key: Key) -> Result<()> {
        if key != capability_sets::NONE && !self.known.contains(&key) {
            self.sets.push((key, capability_sets::get(tx, key)?));
            self.known.insert(key);
        }
        Ok(())
    }

    /// Returns the keys of the sets that contain only capabilities in `capabilities`.
    pub fn find_covered(&mut self, capabilities: &[String]) -> &HashSet<Key> {
        if self.covered.len() >= MAX_CACHED && !self.covered.contains_key(capabilities) {
            self.covered.clear();
        }
        let (checked, covered) =
            self.covered.entry(capabilities.to_vec()).or_insert_with(|| (0, HashSet::from([capability_sets::NONE])));
        for (key, required) in &self.sets[*checked..] {
            if contains_all(capabilities, required) {
                covered.insert(*key);
            }
        }
        *checked = self.sets.len();
        covered
    }
}
