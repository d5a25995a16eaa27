//! This module holds tasks that a transaction has read ahead, because each read of a database across a network waits for
//! the network.
//!
//! The writer's transactions of all servers follow each other, so only this transaction can change a task. Every write
//! forgets all tasks, except the writes in `keep_tasks`.

use std::collections::{HashMap, VecDeque};

use super::Tx;
use super::portion::Portion;
use super::ready::TaskClass;
use super::tasks::ReadyTask;
use crate::domain::Key;
use crate::domain::task::Task;
use crate::error::Result;

/// Maximum number of ready tasks that one read returns. A task has at most 3 MiB, so a read returns at most 48 MiB.
const MAX_READY: usize = 16;

/// Size in bytes that the tasks of one read should not exceed.
const READY_BYTES: usize = 1024 * 1024;

/// The tasks that a transaction has read ahead.
#[derive(Debug, Clone)]
pub struct TasksAhead {
    /// The number of claims in the transaction, by the key of the run. Claims of tasks of any run do not count.
    claims: HashMap<Key, usize>,
    /// Tasks that calls of the group end, by their id, each with whether another task depends on it.
    by_id: HashMap<String, (Task, bool)>,
    ready: HashMap<TaskClass, ReadyAhead>,
}

/// The next ready tasks of a class, in claim order.
#[derive(Debug, Clone)]
struct ReadyAhead {
    tasks: VecDeque<ReadyTask>,
    /// The number of tasks that the next read returns.
    portion: Portion,
}

impl ReadyAhead {
    fn new(first_limit: usize) -> Self {
        Self { tasks: VecDeque::new(), portion: Portion::new(first_limit, MAX_READY) }
    }
}

impl TasksAhead {
    /// Returns no tasks. `claims` holds the number of claims in the transaction by the key of the run.
    pub fn new(claims: HashMap<Key, usize>) -> Self {
        Self { claims, by_id: HashMap::new(), ready: HashMap::new() }
    }

    /// Forgets all tasks.
    pub fn forget(&mut self) {
        self.by_id.clear();
        self.ready.clear();
    }

    /// Adds a task, and whether another task depends on it.
    pub fn add(&mut self, task: Task, has_dependents: bool) {
        self.by_id.insert(task.id.clone(), (task, has_dependents));
    }

    /// Returns the task with the id `id`, and whether another task depends on it, if the task was read ahead.
    pub fn find(&self, id: &str) -> Option<(Task, bool)> {
        self.by_id.get(id).cloned()
    }

    /// Returns the first ready task of a class, if it was read ahead.
    pub fn find_first_ready(&self, class: &TaskClass) -> Option<ReadyTask> {
        self.ready.get(class)?.tasks.front().cloned()
    }

    /// Returns the number of ready tasks of a class to read now.
    pub fn next_limit(&self, class: &TaskClass) -> usize {
        self.ready.get(class).map_or_else(|| self.first_limit(class), |ready| ready.portion.rows())
    }

    /// Returns the number of ready tasks that the first read of a class returns: usually, each claim of the run needs one
    /// task of the class.
    fn first_limit(&self, class: &TaskClass) -> usize {
        self.claims.get(&class.run_key).map_or(1, |claims| (*claims).clamp(1, MAX_READY))
    }

    /// Sets the next ready tasks of a class, of which the largest has the size `largest`.
    pub fn set_ready(&mut self, class: &TaskClass, tasks: Vec<ReadyTask>, largest: usize) {
        let first_limit = self.first_limit(class);
        let ready = self.ready.entry(*class).or_insert_with(|| ReadyAhead::new(first_limit));
        ready.tasks = tasks.into();
        ready.portion.record(largest);
        ready.portion.grow(READY_BYTES);
    }

    /// Forgets a task that this transaction changes.
    fn remove(&mut self, task: &Task) {
        self.by_id.remove(&task.id);
        let class = TaskClass {
            run_key: task.run_key,
            capability_set_key: task.capability_set_key,
            path_set_key: task.path_set_key,
        };
        if let Some(ready) = self.ready.get_mut(&class) {
            ready.tasks.retain(|other| other.task.key != task.key);
        }
    }
}

/// Runs writes that change no task except `changed`, which does not become ready. The other tasks that were read ahead
/// are kept. If a write fails, the transaction reads no more tasks ahead.
pub fn keep_tasks<T>(
    tx: &mut dyn Tx,
    changed: Option<&Task>,
    write: impl FnOnce(&mut dyn Tx) -> Result<T>,
) -> Result<T> {
    let mut kept = tx.cache().tasks_ahead.take();
    let written = write(tx)?;
    if let (Some(kept), Some(changed)) = (&mut kept, changed) {
        kept.remove(changed);
    }
    tx.cache().tasks_ahead = kept;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_read_returns_a_task_for_each_claim_of_the_run() {
        let ahead = TasksAhead::new(HashMap::from([(1, 5), (2, 100)]));
        let first_limit = |run_key| ahead.next_limit(&TaskClass { run_key, capability_set_key: 0, path_set_key: None });
        assert_eq!([1, 2, 3].map(first_limit), [5, MAX_READY, 1]);
    }
}
