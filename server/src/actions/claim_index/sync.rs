//! This module keeps the claim index equal to the store: it loads all classes once, and then reads only the changes.

use std::collections::{HashMap, HashSet};

use super::Index;
use crate::domain::Key;
use crate::domain::run::RunStatus;
use crate::error::Result;
use crate::store::ready::{self, Rank, ReadyClass, TaskClass};
use crate::store::runs::ClaimState;
use crate::store::{Signal, Tx, VersionCursor, due, path_sets, runs};

/// Maximum number of rows of each kind that one transaction reads to follow the changes, or whose delay one transaction
/// ends. Reading this number of rows takes one to two milliseconds.
const ROWS: usize = 1_000;

/// Number of times that the index reads changes until the index checks whether a run still exists.
const SYNCS_PER_CHECK: u64 = 16;

/// A value of `Index::synced_version` that differs from every claim version.
const NEVER_SYNCED: i64 = -1;

/// Number of classes that one transaction reads while the index is loaded. Reading this number of classes takes about
/// ten milliseconds.
const CLASSES_PER_PAGE: usize = 2_000;

/// The claim versions up to which the index has read the changes of each table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursors {
    tasks: VersionCursor,
    runs: VersionCursor,
    path_sets: VersionCursor,
}

impl Cursors {
    fn after(version: i64) -> Self {
        let cursor = VersionCursor::after(version);
        Self { tasks: cursor, runs: cursor, path_sets: cursor }
    }
}

/// The place at which the index continues to read the classes of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunCursor {
    run_key: Key,
    last_class: Option<TaskClass>,
}

/// The changes of the index in a transaction that may be rolled back.
#[derive(Default)]
pub(super) struct Uncertain {
    /// The path sets whose leases have changed, with their repositories.
    leases: HashMap<Key, String>,
    /// The runs whose claim state has changed.
    runs: HashSet<Key>,
    /// The corrected classes, each with the best rank from before a correction.
    classes: HashMap<TaskClass, Rank>,
    /// The runs whose classes the index has read.
    read_runs: HashSet<Key>,
    /// The capability sets that the index has added.
    capability_sets: HashSet<Key>,
    /// The cursors before the transaction.
    cursors: Cursors,
}

impl Uncertain {
    /// Keeps the state of a class from before a correction.
    pub fn keep(&mut self, before: &ReadyClass) {
        let rank = self.classes.entry(before.class).or_insert(before.rank);
        *rank = before.rank.min(*rank);
    }
}

/// An index that is being loaded, page by page. The pages can be read by different transactions, because the index
/// afterwards reads the changes since the first page.
pub struct Loading {
    index: Index,
    started: bool,
    last_class: TaskClass,
}

impl Default for Loading {
    fn default() -> Self {
        Self { index: Index::default(), started: false, last_class: TaskClass::before_run(Key::MIN) }
    }
}

impl Loading {
    /// Reads the next page. Returns whether the page was the last page.
    pub(super) fn read_page(&mut self, tx: &mut dyn Tx) -> Result<bool> {
        if !self.started {
            self.index.start(tx)?;
            self.started = true;
        }
        for _ in 0..CLASSES_PER_PAGE {
            let Some(ready) = ready::find_next_class(tx, &self.last_class)? else { return Ok(true) };
            let is_active = self.index.add(tx, &ready)?;
            self.last_class = if is_active { ready.class } else { TaskClass::after_run(ready.class.run_key) };
        }
        Ok(false)
    }

    pub(super) fn into_index(self) -> Index {
        let mut index = self.index;
        let runs = std::mem::take(&mut index.uncertain.runs);
        index.remove_ended(&runs);
        // The pages were read from committed rows, and the cursors start after them.
        index.uncertain.capability_sets.clear();
        index
    }
}

impl Index {
    fn start(&mut self, tx: &mut dyn Tx) -> Result<()> {
        let version = tx.claim_version()?.number;
        self.cursors = Cursors::after(version);
        self.uncertain.cursors = self.cursors;
        // The first claim must read the delays, even if nothing has changed since the load.
        self.synced_version = NEVER_SYNCED;
        for leased in path_sets::list_leased(tx)? {
            self.classes.set_leased(leased.key, &leased.repo_path, true);
        }
        Ok(())
    }

    /// Ends the delay of tasks whose `not_before_time` has passed, and reads the changes since the last call. Returns
    /// true if the index contains all changes. Returns false if a limit of `ROWS` (1,000) was reached, or if the
    /// transaction has ended delays. The caller must then commit and call the function again in a new transaction.
    pub(super) fn sync(&mut self, tx: &mut dyn Tx) -> Result<bool> {
        self.settle_uncertain(tx)?;
        if self.has_due_tasks(tx) {
            // End the delays in a transaction of their own. Otherwise a claim that finds no task would count as a call
            // that has changed something, and the server would store the response for duplicate requests.
            end_delays(tx)?;
            self.next_delay_end = due::next_delay_end(tx)?;
            return Ok(false);
        }
        let version = tx.claim_version()?.number;
        if version == self.synced_version {
            return Ok(true);
        }
        let is_complete = self.read_lease_changes(tx)?
            && self.read_run_changes(tx)?
            && self.read_new_tasks(tx)?
            && self.read_resumed_runs(tx)?;
        if is_complete {
            self.next_delay_end = due::next_delay_end(tx)?;
            self.synced_version = version;
            self.syncs += 1;
            if self.syncs.is_multiple_of(SYNCS_PER_CHECK) {
                self.check_next_run(tx)?;
            }
        }
        Ok(is_complete && !self.has_due_tasks(tx))
    }

    /// Checks whether the next run of the index still exists. If a run ends and is deleted between two claims, the
    /// index finds no changed row of the run, so without the check the run would stay in the index.
    fn check_next_run(&mut self, tx: &mut dyn Tx) -> Result<()> {
        let Some(run_key) = self.classes.run_after(self.checked_run) else { return Ok(()) };
        self.checked_run = run_key;
        self.refresh_run(tx, run_key)
    }

    fn has_due_tasks(&self, tx: &dyn Tx) -> bool {
        self.next_delay_end.is_some_and(|time| time <= tx.now())
    }

    /// Confirms or undoes the changes of the index from earlier transactions. If the writer has rolled back a
    /// transaction, the function undoes all changes since the last confirmation.
    fn settle_uncertain(&mut self, tx: &mut dyn Tx) -> Result<()> {
        let transaction = tx.transaction();
        if transaction.number == self.transaction.number {
            return Ok(());
        }
        let has_rolled_back = transaction.rollbacks != self.transaction.rollbacks;
        self.transaction = transaction;
        if has_rolled_back {
            return self.undo(tx);
        }
        let begun = Uncertain { cursors: self.cursors, ..Uncertain::default() };
        let confirmed = std::mem::replace(&mut self.uncertain, begun);
        self.remove_ended(&confirmed.runs);
        Ok(())
    }

    /// Undoes the uncertain changes of the index. The changes remain uncertain, because the next transaction can be
    /// rolled back too. The function also makes the index read the changes of the store again, because a change can
    /// have been hidden by another change that is now rolled back.
    fn undo(&mut self, tx: &mut dyn Tx) -> Result<()> {
        self.cursors = self.uncertain.cursors;
        self.synced_version = NEVER_SYNCED;
        // The index adds a capability set again with the next task that needs it.
        self.capabilities.remove(&std::mem::take(&mut self.uncertain.capability_sets));
        for run_key in self.uncertain.read_runs.clone() {
            self.add_unread_run(run_key);
        }
        for (set, repo_path) in self.uncertain.leases.clone() {
            let is_leased = path_sets::is_leased(tx, set)?;
            self.classes.set_leased(set, &repo_path, is_leased);
        }
        for run_key in self.uncertain.runs.clone() {
            self.refresh_run(tx, run_key)?;
        }
        for (class, rank) in &self.uncertain.classes {
            self.classes.restore(&ReadyClass { class: *class, rank: *rank });
        }
        self.next_delay_end = due::next_delay_end(tx)?;
        Ok(())
    }

    /// Removes the runs that have ended. If such a run becomes active again, the index reads its classes again.
    fn remove_ended(&mut self, run_keys: &HashSet<Key>) {
        for run_key in run_keys {
            if self.classes.run_status(*run_key).is_some_and(|status| !status.is_active()) {
                self.classes.remove_run(*run_key);
            }
        }
    }

    fn read_lease_changes(&mut self, tx: &mut dyn Tx) -> Result<bool> {
        let changes = path_sets::list_lease_changes(tx, self.cursors.path_sets, ROWS)?;
        let is_complete = changes.len() < ROWS;
        for (cursor, change) in changes {
            self.classes.set_leased(change.key, &change.repo_path, change.is_leased);
            self.uncertain.leases.insert(change.key, change.repo_path);
            self.cursors.path_sets = cursor;
        }
        Ok(is_complete)
    }

    fn read_run_changes(&mut self, tx: &mut dyn Tx) -> Result<bool> {
        let changes = runs::list_status_changes(tx, self.cursors.runs, ROWS)?;
        let is_complete = changes.len() < ROWS;
        for (cursor, run) in changes {
            let run_key = run.key;
            let was_active = self.classes.run_status(run_key).is_some_and(RunStatus::is_active);
            if run.status.is_active() && !was_active {
                self.add_unread_run(run_key);
            }
            self.set_run(run);
            self.cursors.runs = cursor;
        }
        Ok(is_complete)
    }

    fn read_new_tasks(&mut self, tx: &mut dyn Tx) -> Result<bool> {
        let added = ready::list_since(tx, self.cursors.tasks, ROWS)?;
        let is_complete = added.len() < ROWS;
        for (cursor, ready) in added {
            self.add(tx, &ready)?;
            self.cursors.tasks = cursor;
        }
        Ok(is_complete)
    }

    /// Adds a run whose classes the index must read.
    fn add_unread_run(&mut self, run_key: Key) {
        self.unread_runs.push(RunCursor { run_key, last_class: None });
    }

    /// Reads the classes of runs that have become active again.
    fn read_resumed_runs(&mut self, tx: &mut dyn Tx) -> Result<bool> {
        for _ in 0..ROWS {
            let Some(mut cursor) = self.unread_runs.pop() else { return Ok(true) };
            self.uncertain.read_runs.insert(cursor.run_key);
            let after = cursor.last_class.unwrap_or(TaskClass::before_run(cursor.run_key));
            let next = ready::find_next_class(tx, &after)?.filter(|ready| ready.class.run_key == cursor.run_key);
            if let Some(ready) = next {
                self.add(tx, &ready)?;
                cursor.last_class = Some(ready.class);
                self.unread_runs.push(cursor);
            }
        }
        Ok(self.unread_runs.is_empty())
    }

    /// Adds the class of a ready task. Returns false if the run of the task has ended.
    fn add(&mut self, tx: &mut dyn Tx, ready: &ReadyClass) -> Result<bool> {
        let run_key = ready.class.run_key;
        if self.classes.run_status(run_key).is_none() {
            self.refresh_run(tx, run_key)?;
        }
        let is_active = self.classes.run_status(run_key).is_some_and(RunStatus::is_active);
        if is_active {
            let capability_set_key = ready.class.capability_set_key;
            if self.capabilities.add(tx, capability_set_key)? {
                self.uncertain.capability_sets.insert(capability_set_key);
            }
            self.classes.add(ready);
        }
        Ok(is_active)
    }

    /// Reads the claim state of a run again.
    pub(super) fn refresh_run(&mut self, tx: &mut dyn Tx, run_key: Key) -> Result<()> {
        match runs::find_claim_state(tx, run_key)? {
            Some(run) => self.set_run(run),
            None if self.classes.set_deleted(run_key) => drop(self.uncertain.runs.insert(run_key)),
            None => {}
        }
        Ok(())
    }

    pub(super) fn set_run(&mut self, run: ClaimState) {
        let run_key = run.key;
        if self.classes.set_run(run) {
            self.uncertain.runs.insert(run_key);
        }
    }
}

/// Ends the delay of at most 1,000 tasks whose `not_before_time` has passed, and signals the tasks that became ready.
pub fn end_delays(tx: &mut dyn Tx) -> Result<()> {
    let now = tx.now();
    for (run_key, tasks) in due::end_delays(tx, now, ROWS)? {
        tx.signal(Signal::Ready { run_key, tasks });
    }
    Ok(())
}
