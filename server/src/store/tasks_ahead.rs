//! This module holds tasks that a transaction has read ahead, because each read of a database across a network waits for
//! the network.
//!
//! The writer's transactions of all servers follow each other, so only this transaction can change a task. Every write
//! forgets all tasks, except the writes in `keep_tasks`.

use std::collections::{HashMap, VecDeque};

use super::Tx;
use super::ready::TaskClass;
use super::tasks::ReadyTask;
use crate::domain::task::Task;
use crate::error::Result;

/// Number of ready tasks of a class that the second read of a transaction returns. Each further read returns this factor
/// more tasks. The first read returns one task, because most transactions need one task of a class.
const READY_FACTOR: usize = 4;

/// Maximum number of ready tasks that one read returns. A group has at most 128 calls.
const MAX_READY: usize = 64;

/// The tasks that a transaction has read ahead.
#[derive(Debug, Clone, Default)]
pub struct TasksAhead {
    /// Tasks that calls of the group end, by their id, each with whether another task depends on it.
    by_id: HashMap<String, (Task, bool)>,
    ready: HashMap<TaskClass, ReadyAhead>,
}

/// The next ready tasks of a class, in claim order.
#[derive(Debug, Clone, Default)]
struct ReadyAhead {
    tasks: VecDeque<ReadyTask>,
    /// Number of tasks that the last read was to return.
    limit: usize,
}

impl TasksAhead {
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
    pub fn next_limit(&mut self, class: &TaskClass) -> usize {
        let ready = self.ready.entry(*class).or_default();
        ready.limit = (ready.limit * READY_FACTOR).clamp(1, MAX_READY);
        ready.limit
    }

    /// Sets the next ready tasks of a class.
    pub fn set_ready(&mut self, class: &TaskClass, tasks: Vec<ReadyTask>) {
        self.ready.entry(*class).or_default().tasks = tasks.into();
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
/// are kept.
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
