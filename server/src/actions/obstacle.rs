//! This module decides whether a task can be claimed, and reports the obstacles to a claim.
//!
//! Four parts of the server apply the rule for claimable tasks. `store::ready` selects ready tasks in SQL,
//! `is_claimable` checks one task, `explain` lists the obstacles of one task, and `count` counts the obstacles of
//! pending tasks. The four parts share `RunStatus::allows_claims`, `Task::is_ready`,
//! `domain::task::{is_due, contains_all}` and `HeldPaths`.

use std::collections::{BTreeSet, VecDeque};

use super::paths::{HeldPaths, Overlaps};
use crate::domain::Key;
use crate::domain::glob::{self, Glob};
use crate::domain::obstacle::{self, Obstacle};
use crate::domain::run::RunStatus;
use crate::domain::task::{Task, TaskStatus, contains_all, is_due};
use crate::error::Result;
use crate::store::{Tx, dependencies, pending, runs, tasks};

/// Maximum number of open dependencies, direct and indirect, that `explain` visits.
const MAX_DEPENDENCIES: usize = 1_000;

/// Returns whether an agent with the task's required capabilities could claim the task now.
pub fn is_claimable(tx: &mut dyn Tx, task: &Task, run: RunStatus, overlaps: &Overlaps) -> Result<bool> {
    if !run.allows_claims() || !task.is_ready(tx.now()) {
        return Ok(false);
    }
    HeldPaths::new(overlaps).allows_start(tx, task.run_key, task.path_set_key)
}

/// Returns the obstacles to a claim of the task. Fails if the task does not exist.
pub fn explain(tx: &mut dyn Tx, task_id: &str, overlaps: &Overlaps) -> Result<Vec<Obstacle>> {
    let task = tasks::get(tx, task_id)?;
    let run_status = runs::get_status_and_grace(tx, task.run_key)?.status;
    let mut obstacles: Vec<Obstacle> = Vec::new();
    obstacles.extend(obstacle::run_obstacle(run_status));
    obstacles.extend(obstacle::status_obstacle(&task));
    if matches!(task.status, TaskStatus::Pending | TaskStatus::Blocked) {
        obstacles.extend(find_dependency_obstacles(tx, &task)?);
        obstacles.extend(obstacle::time_obstacle(&task, tx.now()));
        obstacles.extend(find_path_obstacles(tx, &task, overlaps)?);
        obstacles.extend(obstacle::capabilities_obstacle(&task));
    }
    Ok(obstacles)
}

/// Returns an obstacle for each open dependency of the task, and for each indirect dependency that is BLOCKED or
/// ABANDONED.
fn find_dependency_obstacles(tx: &mut dyn Tx, task: &Task) -> Result<Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let mut seen: BTreeSet<Key> = BTreeSet::new();
    let mut queue: VecDeque<(Key, bool)> = VecDeque::from([(task.key, true)]);
    while let Some((key, is_direct)) = queue.pop_front() {
        for open in dependencies::list_open_dependencies(tx, key)? {
            if seen.len() == MAX_DEPENDENCIES || !seen.insert(open.key) {
                continue;
            }
            let is_stuck = matches!(open.status, TaskStatus::Blocked | TaskStatus::Abandoned);
            if is_direct || is_stuck {
                obstacles.push(obstacle::dependency_obstacle(open.id, &open.title, open.status, is_direct));
            }
            queue.push_back((open.key, false));
        }
    }
    Ok(obstacles)
}

/// Returns an obstacle for each task in progress whose paths overlap with the paths of `task`.
fn find_path_obstacles(tx: &mut dyn Tx, task: &Task, overlaps: &Overlaps) -> Result<Vec<Obstacle>> {
    let Some(set) = task.path_set_key else { return Ok(Vec::new()) };
    let mut obstacles = Vec::new();
    for held in HeldPaths::new(overlaps).conflicts(tx, task.run_key, set)? {
        let holder = tasks::get_by_key(tx, held.task_key)?;
        if let Some((path, other_path)) = find_first_overlap(&task.spec.allowed_paths, &holder.spec.allowed_paths) {
            obstacles.push(obstacle::paths_obstacle(path, other_path, holder));
        }
    }
    Ok(obstacles)
}

/// Returns the first pair of patterns, one from each list, that match a common path. Returns None if no patterns
/// overlap.
fn find_first_overlap(own: &[String], others: &[String]) -> Option<(String, String)> {
    let (own, own_globs) = parse_valid_globs(own);
    let (others, other_globs) = parse_valid_globs(others);
    let (at, other_at) = glob::first_overlap(&own_globs, &other_globs)?;
    Some((own[at].to_owned(), others[other_at].to_owned()))
}

/// Returns the paths that are valid glob patterns, and the parsed forms of the patterns. Ignores invalid patterns,
/// which imported tasks may contain.
fn parse_valid_globs(paths: &[String]) -> (Vec<&str>, Vec<Glob>) {
    paths.iter().filter_map(|path| Some((path.as_str(), Glob::parse(path).ok()?))).unzip()
}

/// The number of pending tasks with each kind of obstacle. A task with two obstacles is counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents the fields.
pub struct Unclaimable {
    pub pending: i32,
    pub waiting_on_dependency: i32,
    pub waiting_on_time: i32,
    pub waiting_on_paths: i32,
    pub missing_capability: i32,
    pub run_paused: i32,
}

/// Counts the obstacles that prevent an agent with the passed capabilities from claiming a task, in one run or in all
/// runs. Reads at most `limits::UNCLAIMABLE_TASKS` pending tasks. Fails if the run does not exist.
pub fn count(
    tx: &mut dyn Tx,
    run_id: Option<&str>,
    capabilities: &[String],
    overlaps: &Overlaps,
) -> Result<Unclaimable> {
    let run_key = run_id.map(|id| runs::get_key(tx, id)).transpose()?;
    let now = tx.now();
    let mut held = HeldPaths::new(overlaps);
    let mut counted = Unclaimable::default();
    for task in pending::list_first_pending_tasks(tx, run_key)? {
        counted.pending += 1;
        counted.waiting_on_dependency += i32::from(task.open_dependencies > 0);
        counted.waiting_on_time += i32::from(!is_due(task.not_before_time, now));
        counted.waiting_on_paths += i32::from(!held.allows_start(tx, task.run_key, task.path_set_key)?);
        counted.missing_capability += i32::from(!contains_all(capabilities, &task.required_capabilities));
        counted.run_paused += i32::from(task.run_status == RunStatus::Paused);
    }
    Ok(counted)
}
