//! Tasks together with what they depend on: tables `tasks` and `task_dependencies`.

use super::{Tx, dependencies, tasks};
use crate::domain::plan::Dependency;
use crate::domain::task::{Task, TaskStatus};
use crate::error::Result;

/// Adds tasks with their dependencies, which may be among them, and completes what a task says of these.
pub fn insert(tx: &mut dyn Tx, added: &mut [Task], dependencies: &[Vec<Dependency>]) -> Result<()> {
    for (at, depends_on) in dependencies.iter().enumerate() {
        for dependency in depends_on {
            let (id, status) = id_and_status(tx, *dependency, added)?;
            added[at].depends_on.push(id);
            added[at].open_dependencies += i32::from(status != TaskStatus::Completed);
        }
    }
    for task in added.iter() {
        tasks::insert(tx, task)?;
    }
    // After all tasks are there, for one may depend on a later one.
    for (task, depends_on) in added.iter().zip(dependencies) {
        for dependency in depends_on {
            let depends_on_key = match dependency {
                Dependency::Draft(other) => added[*other].key,
                Dependency::Task(key) => *key,
            };
            dependencies::insert(tx, task.key, depends_on_key)?;
        }
    }
    Ok(())
}

fn id_and_status(tx: &mut dyn Tx, dependency: Dependency, added: &[Task]) -> Result<(String, TaskStatus)> {
    match dependency {
        Dependency::Draft(other) => Ok((added[other].id.clone(), added[other].status)),
        Dependency::Task(key) => tasks::by_key(tx, key).map(|task| (task.id, task.status)),
    }
}
