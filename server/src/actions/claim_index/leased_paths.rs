//! This module keeps the path sets of leased tasks.

use std::collections::{BTreeSet, HashMap};

use crate::domain::Key;

/// The path sets of all leased tasks, by repository. Only tasks of runs with equal `repo_path` can conflict.
#[derive(Default)]
pub struct LeasedPaths {
    by_repo: HashMap<String, BTreeSet<Key>>,
    repo_of: HashMap<Key, String>,
}

impl LeasedPaths {
    /// Records whether an agent holds a lease on a task with the path set `set`.
    pub fn set(&mut self, set: Key, repo_path: &str, is_leased: bool) {
        if is_leased {
            self.by_repo.entry(repo_path.to_owned()).or_default().insert(set);
            self.repo_of.insert(set, repo_path.to_owned());
            return;
        }
        let Some(repo_path) = self.repo_of.remove(&set) else { return };
        let Some(sets) = self.by_repo.get_mut(&repo_path) else { return };
        sets.remove(&set);
        if sets.is_empty() {
            self.by_repo.remove(&repo_path);
        }
    }

    /// Returns whether an agent holds a lease on a task with the path set `set`.
    pub fn contains(&self, set: Key) -> bool {
        self.repo_of.contains_key(&set)
    }

    /// Returns the path sets of the leased tasks in a repository.
    pub fn of_repo(&self, repo_path: &str) -> impl Iterator<Item = Key> + Clone {
        self.by_repo.get(repo_path).into_iter().flatten().copied()
    }
}
