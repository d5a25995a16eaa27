//! This module finds the next task for a claim without reading the tasks that the agent can't claim.
//!
//! The index keeps in memory the classes of ready tasks: the tasks of a run that require equal capabilities and have
//! equal paths. A claim looks only at the first class whose capabilities the agent covers. If the paths of a leased
//! task block the class, the claim moves the class to the classes that this path set blocks, so that no claim looks at
//! the class again before the lease ends.
//!
//! The index is a cache. A claim first reads the changes since the last claim, and checks the found task in the
//! transaction of the claim. The index can name a class that has no claimable task. The claim then corrects the index.
//! The index never misses a claimable task. With several servers, each server reads the changes of all servers.

mod capabilities;
mod classes;
mod leased_paths;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use self::capabilities::Capabilities;
use self::classes::Classes;
use self::sync::{Cursors, RunCursor, Uncertain};
pub use self::sync::{Loading, end_delays};
use super::paths::{Overlaps, PairLimit, PathCheck, Undecided, max_undecided_sets};
use super::{Outcome, Postponed};
use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::ready::{Rank, ReadyClass, TaskClass};
use crate::store::tasks::{self, ReadyTask};
use crate::store::{Transaction, Tx};

/// Time after which a claim that still searches ends its transaction, so that other calls can use the writer.
const SLICE: Duration = Duration::from_millis(5);

/// Maximum number of path sets of one `Postponed::Undecided`.
const UNDECIDED_SETS: usize = 512;

/// The index of all ready tasks of a store. Clones of an `Arc` share the index.
#[derive(Default)]
pub struct ClaimIndex {
    /// The loaded index. If the index is not loaded, the value is None.
    index: Mutex<Option<Index>>,
    overlaps: Arc<Overlaps>,
}

#[derive(Default)]
struct Index {
    classes: Classes,
    capabilities: Capabilities,
    cursors: Cursors,
    /// The claim version up to which the index knows all changes.
    synced_version: i64,
    /// The earliest `not_before_time` of a delayed task.
    next_delay_end: Option<Timestamp>,
    /// The runs that have become active again, whose classes the index has not read yet.
    unread_runs: Vec<RunCursor>,
    /// Number of times that the index has read changes.
    syncs: u64,
    /// The run whose existence the index has checked last.
    checked_run: Key,
    /// The transaction that used the index last.
    transaction: Transaction,
    /// The changes of the index since the last transaction that is known to be committed.
    uncertain: Uncertain,
}

/// The tasks among which a claim chooses.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Key of the run whose tasks the agent accepts. If the value is None, the agent accepts the tasks of all runs.
    pub run_key: Option<Key>,
    /// The capabilities of the agent.
    pub capabilities: &'a [String],
}

impl ClaimIndex {
    /// Returns an index that uses the cached decisions of `overlaps`. The index is not loaded yet.
    pub fn new(overlaps: Arc<Overlaps>) -> Self {
        Self { overlaps, ..Self::default() }
    }

    /// Returns the number of runs in the index, for use in tests.
    pub fn run_count(&self) -> usize {
        self.lock().as_ref().map_or(0, |index| index.classes.run_count())
    }

    /// Returns whether the index is loaded.
    pub fn is_loaded(&self) -> bool {
        self.lock().is_some()
    }

    /// Reads a page of the classes into `loading`. After the last page, the index is loaded. Returns whether the index
    /// is loaded.
    pub fn load_page(&self, tx: &mut dyn Tx, loading: &mut Loading) -> Result<bool> {
        if !loading.read_page(tx)? {
            return Ok(false);
        }
        *self.lock() = Some(std::mem::take(loading).into_index());
        Ok(true)
    }

    /// Returns the next task for a claim, or None if no task is claimable. The transaction must be able to
    /// write. If the index is not loaded, or if the claim exceeds a limit on the work of one transaction, the result is
    /// `Outcome::Postponed`. In this case, the caller does the named work and tries again. `tries` is the number of
    /// times that the claim was postponed before.
    pub fn find_next(&self, tx: &mut dyn Tx, scope: Scope, tries: usize) -> Result<Outcome<Option<ReadyTask>>> {
        self.with_synced(tx, |index, tx| index.find_next(tx, scope, &self.overlaps, tries))
    }

    /// Returns the earliest `not_before_time` of a delayed task at the time of the last claim. Returns None if no task
    /// was delayed, or if the index is not loaded.
    pub fn next_delay_end(&self) -> Option<Timestamp> {
        self.lock().as_ref().and_then(|index| index.next_delay_end)
    }

    /// Returns whether the paths of no leased task block a task of the run `run_key` with the path set `set`.
    pub fn allows_start(&self, tx: &mut dyn Tx, run_key: Key, set: Option<Key>) -> Result<Outcome<bool>> {
        let Some(set) = set else { return Ok(Outcome::Done(true)) };
        self.with_synced(tx, |index, tx| {
            index.refresh_run(tx, run_key)?;
            let leased = index.leased_in_repo_of(run_key)?;
            Ok(match self.overlaps.check(tx, set, leased, &mut PairLimit::default())? {
                PathCheck::Free => Outcome::Done(true),
                PathCheck::Blocked(_) => Outcome::Done(false),
                PathCheck::Undecided => index.postpone_undecided(run_key, vec![set]),
            })
        })
    }

    /// Passes the index to `search` after the index has read all changes. If the index is not loaded, or if the changes
    /// exceed the limit of one transaction, the outcome is `Postponed`.
    fn with_synced<T>(
        &self,
        tx: &mut dyn Tx,
        search: impl FnOnce(&mut Index, &mut dyn Tx) -> Result<Outcome<T>>,
    ) -> Result<Outcome<T>> {
        let mut index = self.lock();
        let Some(index) = index.as_mut() else { return Ok(Outcome::Postponed(Postponed::Load)) };
        if index.sync(tx)? { search(index, tx) } else { Ok(Outcome::Postponed(Postponed::Again)) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Index>> {
        self.index.lock().unwrap_or_else(|poisoned| {
            // A panic can have left the index half changed, so load the index again.
            self.index.clear_poison();
            let mut index = poisoned.into_inner();
            *index = None;
            index
        })
    }
}

impl Index {
    fn find_next(
        &mut self,
        tx: &mut dyn Tx,
        scope: Scope,
        overlaps: &Overlaps,
        tries: usize,
    ) -> Result<Outcome<Option<ReadyTask>>> {
        let mut limit = PairLimit::default();
        let mut checked: Option<(ReadyTask, ReadyClass)> = None;
        let covered = self.capabilities.find_covered(scope.capabilities);
        let start = Instant::now();
        loop {
            let Some(first) = self.first(scope, &covered) else { return Ok(Outcome::Done(None)) };
            let Some((task, _)) = checked.take_if(|(_, checked)| *checked == first) else {
                // Use a class that was checked even if the time has passed: the read of a large task can take longer.
                if start.elapsed() >= SLICE {
                    return Ok(Outcome::Postponed(Postponed::Again));
                }
                checked = self.check_class(tx, scope, &first)?;
                continue;
            };
            match self.check_paths(tx, &first.class, overlaps, &mut limit)? {
                PathCheck::Free => return Ok(Outcome::Done(Some(task))),
                PathCheck::Blocked(blocker) => {
                    self.uncertain.keep(&first);
                    self.classes.block(&first.class, blocker);
                }
                PathCheck::Undecided => {
                    let wanted = 8_usize.saturating_pow(u32::try_from(tries).unwrap_or(u32::MAX)).min(UNDECIDED_SETS);
                    let leased = self.leased_in_repo_of(first.class.run_key)?.count();
                    let sets = self.classes.list_path_sets(&first.class, wanted.min(max_undecided_sets(leased)));
                    return Ok(self.postpone_undecided(first.class.run_key, sets));
                }
            }
        }
    }

    /// Returns the first class of the scope in claim order, or None if there is no such class.
    fn first(&mut self, scope: Scope, covered: &HashSet<Key>) -> Option<ReadyClass> {
        match scope.run_key {
            Some(run_key) => self.classes.first_of_run(run_key, covered),
            None => self.classes.first_of_all(covered),
        }
    }

    /// Reads the run and the first ready task of a class, and corrects the entries of the run and the class in the
    /// index. Returns the task and the corrected class, or None if the class has no ready task.
    fn check_class(
        &mut self,
        tx: &mut dyn Tx,
        scope: Scope,
        ready: &ReadyClass,
    ) -> Result<Option<(ReadyTask, ReadyClass)>> {
        self.uncertain.keep(ready);
        let Some(task) = self.read_first_ready(tx, scope, &ready.class)? else {
            self.classes.remove(&ready.class);
            return Ok(None);
        };
        let rank = Rank::of(&task.task);
        if rank != ready.rank {
            self.classes.set_rank(&ready.class, rank);
        }
        Ok(Some((task, ReadyClass { class: ready.class, rank })))
    }

    /// Returns the first ready task of a class. If the claim has not read the run of the class, corrects the entry of the
    /// run in the index.
    fn read_first_ready(&mut self, tx: &mut dyn Tx, scope: Scope, class: &TaskClass) -> Result<Option<ReadyTask>> {
        if scope.run_key.is_some() {
            return tasks::find_first_ready(tx, class);
        }
        let Some((task, run)) = tasks::find_first_ready_with_run(tx, class)? else {
            self.refresh_run(tx, class.run_key)?;
            return Ok(None);
        };
        self.set_run(run);
        Ok(Some(task))
    }

    /// Checks whether the paths of a leased task block a class.
    fn check_paths(
        &self,
        tx: &mut dyn Tx,
        class: &TaskClass,
        overlaps: &Overlaps,
        limit: &mut PairLimit,
    ) -> Result<PathCheck> {
        let Some(set) = class.path_set_key else { return Ok(PathCheck::Free) };
        overlaps.check(tx, set, self.leased_in_repo_of(class.run_key)?, limit)
    }

    fn postpone_undecided<T>(&self, run_key: Key, sets: Vec<Key>) -> Outcome<T> {
        let leased = self.leased_in_repo_of(run_key).map(Iterator::collect).unwrap_or_default();
        Outcome::Postponed(Postponed::Undecided(Undecided { sets, leased }))
    }

    fn leased_in_repo_of(&self, run_key: Key) -> Result<impl Iterator<Item = Key> + Clone> {
        let repo_path = self.classes.repo_path(run_key).ok_or_else(|| {
            Error::internal(format!("the claim index does not know the run with the key {run_key}: report the bug"))
        })?;
        Ok(self.classes.leased.of_repo(repo_path))
    }
}
