//! Obstacles: the rule that decides whether a task can be claimed, and the reasons why it can't (C2).
//!
//! The rule has one home for each form: `store::ready` finds ready tasks by SQL, `is_claimable` checks one task,
//! `explain` names each obstacle of one task, and `count` counts the obstacles of many. All four use the same parts:
//! `RunStatus::allows_claims`, `Task::is_ready`, `domain::task::{is_due, covers}` and `HeldPaths`.

use std::collections::{BTreeSet, VecDeque};

use super::paths::{HeldPaths, Overlaps};
use crate::domain::Key;
use crate::domain::glob::{self, Glob};
use crate::domain::obstacle::{self, Obstacle};
use crate::domain::run::RunStatus;
use crate::domain::task::{Task, TaskStatus, covers, is_due};
use crate::error::Result;
use crate::store::{Tx, dependencies, pending, runs, tasks};

/// Maximum number of dependencies that `explain` follows upwards.
const MAX_DEPENDENCIES: usize = 1_000;

/// Returns whether an agent with the right capabilities could claim the task now.
pub fn is_claimable(tx: &mut dyn Tx, task: &Task, run: RunStatus, overlaps: &Overlaps) -> Result<bool> {
    if !run.allows_claims() || !task.is_ready(tx.now()) {
        return Ok(false);
    }
    HeldPaths::new(overlaps).allow(tx, task.run_key, task.path_set_key)
}

/// Returns every obstacle that keeps a task from being claimed.
pub fn explain(tx: &mut dyn Tx, task_id: &str, overlaps: &Overlaps) -> Result<Vec<Obstacle>> {
    let task = tasks::get(tx, task_id)?;
    let run_status = runs::standing(tx, task.run_key)?.status;
    let mut obstacles: Vec<Obstacle> = Vec::new();
    obstacles.extend(obstacle::of_run(run_status));
    obstacles.extend(obstacle::of_status(&task));
    if matches!(task.status, TaskStatus::Pending | TaskStatus::Blocked) {
        obstacles.extend(of_dependencies(tx, &task)?);
        obstacles.extend(obstacle::of_time(&task, tx.now()));
        obstacles.extend(of_paths(tx, &task, overlaps)?);
        obstacles.extend(obstacle::of_capabilities(&task));
    }
    Ok(obstacles)
}

/// Returns each open dependency of the task, and of the indirect dependencies those that need somebody to act.
fn of_dependencies(tx: &mut dyn Tx, task: &Task) -> Result<Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let mut seen: BTreeSet<Key> = BTreeSet::new();
    let mut queue: VecDeque<(Key, bool)> = VecDeque::from([(task.key, true)]);
    while let Some((key, is_direct)) = queue.pop_front() {
        for open in dependencies::open(tx, key)? {
            if seen.len() == MAX_DEPENDENCIES || !seen.insert(open.key) {
                continue;
            }
            let is_stuck = matches!(open.status, TaskStatus::Blocked | TaskStatus::Abandoned);
            if is_direct || is_stuck {
                obstacles.push(obstacle::of_dependency(open.id, &open.title, open.status, is_direct));
            }
            queue.push_back((open.key, false));
        }
    }
    Ok(obstacles)
}

/// Returns each held task whose paths overlap with those of the task.
fn of_paths(tx: &mut dyn Tx, task: &Task, overlaps: &Overlaps) -> Result<Vec<Obstacle>> {
    let Some(set) = task.path_set_key else { return Ok(Vec::new()) };
    let mut obstacles = Vec::new();
    for held in HeldPaths::new(overlaps).conflicts(tx, task.run_key, set)? {
        let holder = tasks::by_key(tx, held.task_key)?;
        if let Some((path, other_path)) = first_overlap(&task.spec.allowed_paths, &holder.spec.allowed_paths) {
            obstacles.push(obstacle::of_paths(path, other_path, holder));
        }
    }
    Ok(obstacles)
}

/// Returns the first two patterns that match a common path.
fn first_overlap(own: &[String], others: &[String]) -> Option<(String, String)> {
    let (own, own_globs) = valid_globs(own);
    let (others, other_globs) = valid_globs(others);
    let (at, other_at) = glob::first_overlap(&own_globs, &other_globs)?;
    Some((own[at].to_owned(), others[other_at].to_owned()))
}

/// Returns the paths that are valid patterns, with their parsed form. Imported tasks may have invalid ones, which are
/// ignored.
fn valid_globs(paths: &[String]) -> (Vec<&str>, Vec<Glob>) {
    paths.iter().filter_map(|path| Some((path.as_str(), Glob::parse(path).ok()?))).unzip()
}

/// Numbers of pending tasks by what keeps them from being claimed. A task with two obstacles counts twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct Unclaimable {
    pub pending: i32,
    pub waiting_on_dependency: i32,
    pub waiting_on_time: i32,
    pub waiting_on_paths: i32,
    pub missing_capability: i32,
    pub run_paused: i32,
}

/// Counts what keeps an agent with these capabilities from a claim, in one run or in all.
pub fn count(
    tx: &mut dyn Tx,
    run_id: Option<&str>,
    capabilities: &[String],
    overlaps: &Overlaps,
) -> Result<Unclaimable> {
    let run_key = run_id.map(|id| runs::key(tx, id)).transpose()?;
    let now = tx.now();
    let mut held = HeldPaths::new(overlaps);
    let mut counted = Unclaimable::default();
    for task in pending::first(tx, run_key)? {
        counted.pending += 1;
        counted.waiting_on_dependency += i32::from(task.open_dependencies > 0);
        counted.waiting_on_time += i32::from(!is_due(task.not_before_time, now));
        counted.waiting_on_paths += i32::from(!held.allow(tx, task.run_key, task.path_set_key)?);
        counted.missing_capability += i32::from(!covers(capabilities, &task.required_capabilities));
        counted.run_paused += i32::from(task.run_status == RunStatus::Paused);
    }
    Ok(counted)
}
