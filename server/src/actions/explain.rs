//! Why a task can't be claimed now: one reason for each thing in the way.

use std::collections::{BTreeSet, VecDeque};

use super::paths::{HeldPaths, Overlaps};
use crate::domain::Key;
use crate::domain::code::words;
use crate::domain::glob::{self, Glob};
use crate::domain::obstacle::{self, Obstacle, ObstacleKind};
use crate::domain::system_event::shown_title;
use crate::domain::task::{Task, TaskStatus};
use crate::error::Result;
use crate::store::{Tx, dependencies, runs, tasks};

/// Dependencies of dependencies that are looked at, so that an answer stays an answer.
const LOOK_AT: usize = 1_000;

/// Everything that is in the way of a task.
pub fn explain(tx: &mut dyn Tx, task_id: &str, overlaps: &Overlaps) -> Result<Vec<Obstacle>> {
    let task = tasks::get(tx, task_id)?;
    let run_status = runs::standing(tx, task.run_key)?.status;
    let mut reasons: Vec<Obstacle> =
        [obstacle::of_run(run_status), obstacle::of_status(&task)].into_iter().flatten().collect();
    if matches!(task.status, TaskStatus::Pending | TaskStatus::Blocked) {
        reasons.extend(of_dependencies(tx, &task)?);
        reasons.extend(obstacle::of_time(&task, tx.now()));
        reasons.extend(of_paths(tx, &task, overlaps)?);
        reasons.extend(obstacle::of_capabilities(&task));
    }
    Ok(reasons)
}

/// Each open dependency; and of those further up what will not move by itself.
fn of_dependencies(tx: &mut dyn Tx, task: &Task) -> Result<Vec<Obstacle>> {
    let mut reasons = Vec::new();
    let mut seen: BTreeSet<Key> = BTreeSet::new();
    let mut to_look_at: VecDeque<(Key, bool)> = VecDeque::from([(task.key, true)]);
    while let Some((key, direct)) = to_look_at.pop_front() {
        for open in dependencies::open(tx, key)? {
            if seen.len() == LOOK_AT || !seen.insert(open.key) {
                continue;
            }
            let is_stuck = matches!(open.status, TaskStatus::Blocked | TaskStatus::Abandoned);
            if direct || is_stuck {
                let how = if direct { "it depends on" } else { "further up it waits for" };
                let detail = format!("{how} {:?}, which is {}", shown_title(&open.title), words(open.status.name()));
                reasons.push(Obstacle { task_id: Some(open.id), ..Obstacle::new(ObstacleKind::Dependency, detail) });
            }
            to_look_at.push_back((open.key, false));
        }
    }
    Ok(reasons)
}

/// Each held task whose paths overlap, with the first pair that does.
fn of_paths(tx: &mut dyn Tx, task: &Task, overlaps: &Overlaps) -> Result<Vec<Obstacle>> {
    let Some(set) = task.path_set_key else { return Ok(Vec::new()) };
    let mut reasons = Vec::new();
    for held in HeldPaths::new(overlaps).all_in_the_way_of(tx, task.run_key, set)? {
        let holder = tasks::by_key(tx, held.task_key)?;
        let (own, others) = (&task.spec.allowed_paths, &holder.spec.allowed_paths);
        let Some((path, other_path)) = first_overlap(own, others) else { continue };
        let agent = holder.agent_id.as_deref().unwrap_or("somebody");
        let detail =
            format!("{path} overlaps with {other_path} of {:?}, held by {agent}", shown_title(&holder.spec.title));
        reasons.push(Obstacle {
            task_id: Some(holder.id),
            path: Some(path),
            other_path: Some(other_path),
            time: holder.lease.map(|lease| lease.expire_time),
            ..Obstacle::new(ObstacleKind::Paths, detail)
        });
    }
    Ok(reasons)
}

/// The first two patterns that have a path in common. What an import brought may be no pattern.
fn first_overlap(own: &[String], others: &[String]) -> Option<(String, String)> {
    let parse = |paths: &[String]| -> (Vec<String>, Vec<Glob>) {
        paths.iter().filter_map(|path| Some((path.clone(), Glob::parse(path).ok()?))).unzip()
    };
    let ((own, own_globs), (others, other_globs)) = (parse(own), parse(others));
    let (at, other) = glob::first_overlap(&own_globs, &other_globs)?;
    Some((own[at].clone(), others[other].clone()))
}
