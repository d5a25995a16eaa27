//! This module decides whether a task can be claimed, and reports the obstacles to a claim.
//!
//! Four parts of the server apply the rule for claimable tasks. `claim_index` selects a task for a claim,
//! `is_claimable` checks one task, `explain` lists the obstacles of one task, and `count` counts the obstacles of
//! pending tasks. The four parts share `RunStatus::allows_claims`, `domain::task::contains_all`, `Overlaps`, and the
//! meaning of a ready task in `Task::is_ready` and the macro `ready!` of the store.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::claim_index::ClaimIndex;
use super::paths::{LeasedTasks, Overlaps, PairLimit, PathCheck, Undecided, max_undecided_sets};
use super::{Outcome, Postponed};
use crate::domain::Key;
use crate::domain::glob::{Glob, GlobSet, Overlap, StepLimit};
use crate::domain::obstacle::{self, Obstacle};
use crate::domain::run::RunStatus;
use crate::domain::task::{Task, TaskStatus, contains_all};
use crate::error::Result;
use crate::store::{Tx, dependencies, pending, runs, tasks};

/// Maximum number of open dependencies, direct and indirect, that `explain` visits.
const MAX_DEPENDENCIES: usize = 1_000;

/// Maximum number of rows of open dependencies that `explain` reads. If several tasks share a dependency, `explain`
/// reads a row for each of these tasks.
const MAX_DEPENDENCY_ROWS: usize = 5_000;

/// Maximum number of steps in which `explain` compares patterns, which takes less than 50 ms.
const EXPLANATION_STEPS: usize = 10_000_000;

/// Returns whether an agent with the task's required capabilities could claim the task now.
pub fn is_claimable(tx: &mut dyn Tx, task: &Task, run: RunStatus, index: &ClaimIndex) -> Result<Outcome<bool>> {
    if !run.allows_claims() || !task.is_ready(tx.now()) {
        return Ok(Outcome::Done(false));
    }
    index.allows_start(tx, task.run_key, task.path_set_key)
}

/// The obstacles to a claim of a task.
#[derive(Debug, Default)]
pub struct Explanation {
    /// The obstacles.
    pub obstacles: Vec<Obstacle>,
    /// If the explanation is exact and complete, the value is false. The explanation is incomplete if `explain` stopped
    /// at `MAX_DEPENDENCIES` (1,000) or `MAX_DEPENDENCY_ROWS` (5,000). The explanation is inexact if a comparison of
    /// paths needs more than the permitted steps, so the paths count as overlapping.
    pub is_cut: bool,
}

/// Returns the obstacles to a claim of the task. Fails if the task does not exist.
pub fn explain(tx: &mut dyn Tx, task_id: &str, overlaps: &Overlaps) -> Result<Outcome<Explanation>> {
    let task = tasks::get(tx, task_id)?;
    let run_status = runs::get_status_and_grace(tx, task.run_key)?.status;
    let mut found = Explanation::default();
    found.obstacles.extend(obstacle::run_obstacle(run_status));
    found.obstacles.extend(obstacle::status_obstacle(&task));
    if matches!(task.status, TaskStatus::Pending | TaskStatus::Blocked) {
        find_dependency_obstacles(tx, &task, &mut found)?;
        found.obstacles.extend(obstacle::time_obstacle(&task, tx.now()));
        if let Some(undecided) = find_path_obstacles(tx, &task, overlaps, &mut found)? {
            return Ok(Outcome::Postponed(Postponed::Undecided(undecided)));
        }
        found.obstacles.extend(obstacle::capabilities_obstacle(&task));
    }
    Ok(Outcome::Done(found))
}

/// Adds an obstacle for each open dependency of the task, and for each indirect dependency that is BLOCKED or
/// ABANDONED.
fn find_dependency_obstacles(tx: &mut dyn Tx, task: &Task, found: &mut Explanation) -> Result<()> {
    let mut seen: BTreeSet<Key> = BTreeSet::new();
    let mut rows = 0;
    let mut queue: VecDeque<(Key, bool)> = VecDeque::from([(task.key, true)]);
    while let Some((key, is_direct)) = queue.pop_front() {
        for open in dependencies::list_open_dependencies(tx, key)? {
            rows += 1;
            if rows > MAX_DEPENDENCY_ROWS || (seen.len() == MAX_DEPENDENCIES && !seen.contains(&open.key)) {
                found.is_cut = true;
                return Ok(());
            }
            if !seen.insert(open.key) {
                continue;
            }
            let is_stuck = matches!(open.status, TaskStatus::Blocked | TaskStatus::Abandoned);
            if is_direct || is_stuck {
                found.obstacles.push(obstacle::dependency_obstacle(open.id, &open.title, open.status, is_direct));
            }
            queue.push_back((open.key, false));
        }
    }
    Ok(())
}

/// Adds an obstacle for each task in progress whose paths overlap with the paths of `task`. Returns the path sets that
/// the reader must compare first, or None if the obstacles are complete.
fn find_path_obstacles(
    tx: &mut dyn Tx,
    task: &Task,
    overlaps: &Overlaps,
    found: &mut Explanation,
) -> Result<Option<Undecided>> {
    let Some(set) = task.path_set_key else { return Ok(None) };
    let leased = LeasedTasks::default().list(tx, task.run_key)?;
    let undecided: Vec<Key> =
        leased.iter().map(|other| other.path_set_key).filter(|other| !overlaps.is_decided(set, *other)).collect();
    if !undecided.is_empty() {
        // Pass the path sets of the leased tasks as `sets`, because `decide_slice` compares each element of `sets`, but
        // stops at the first element of `leased` that overlaps.
        return Ok(Some(Undecided { sets: undecided, leased: vec![set] }));
    }
    let mut work = StepLimit::new(EXPLANATION_STEPS);
    for other in leased.iter() {
        if !overlaps.decide(tx, set, other.path_set_key)?.overlaps {
            continue;
        }
        let holder = tasks::get_by_key(tx, other.task_key)?;
        if let Some(overlap) = find_first_overlap(&task.spec.allowed_paths, &holder.spec.allowed_paths, &mut work) {
            found.is_cut |= overlap.is_cut;
            found.obstacles.push(obstacle::paths_obstacle(overlap.own, overlap.other, holder));
        }
    }
    Ok(None)
}

/// A pair of patterns that match a common path.
struct PatternOverlap {
    own: String,
    other: String,
    /// Whether the comparison needs too much work, so that the patterns only count as overlapping.
    is_cut: bool,
}

/// Returns the first pair of patterns, one from each list, that match a common path. Returns None if no patterns
/// overlap.
fn find_first_overlap(own: &[String], others: &[String], work: &mut StepLimit) -> Option<PatternOverlap> {
    let (own, own_globs) = parse_valid_globs(own);
    let (others, other_globs) = parse_valid_globs(others);
    let (at, other_at, is_cut) = match own_globs.find_first_overlap(&other_globs, work) {
        Overlap::None => return None,
        Overlap::Pair(at, other_at) => (at, other_at, false),
        Overlap::Cut(at, other_at) => (at, other_at, true),
    };
    Some(PatternOverlap { own: own[at].to_owned(), other: others[other_at].to_owned(), is_cut })
}

/// Returns the paths that are valid glob patterns, and the parsed forms of the patterns. Ignores invalid patterns,
/// which imported tasks may contain.
fn parse_valid_globs(paths: &[String]) -> (Vec<&str>, GlobSet) {
    let (valid, globs) = paths.iter().filter_map(|path| Some((path.as_str(), Glob::parse(path).ok()?))).unzip();
    (valid, GlobSet::new(globs))
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
/// runs. Reads at most `limits::UNCLAIMABLE_TASKS` pending tasks. `paths` keeps the results of postponed tries. Fails
/// if the run does not exist.
pub fn count(
    tx: &mut dyn Tx,
    run_id: Option<&str>,
    capabilities: &[String],
    overlaps: &Overlaps,
    paths: &mut PathCounter,
) -> Result<Outcome<Unclaimable>> {
    let run_key = run_id.map(|id| runs::get_key(tx, id)).transpose()?;
    let now = tx.now();
    paths.start_try();
    let mut counted = Unclaimable::default();
    for task in pending::list_first_pending_tasks(tx, run_key)? {
        counted.pending += 1;
        counted.waiting_on_dependency += i32::from(task.open_dependencies > 0);
        counted.waiting_on_time += i32::from(task.is_delayed && task.not_before_time.is_some_and(|time| now < time));
        counted.waiting_on_paths += i32::from(paths.is_blocked(tx, overlaps, task.run_key, task.path_set_key)?);
        counted.missing_capability += i32::from(!contains_all(capabilities, &task.required_capabilities));
        counted.run_paused += i32::from(task.run_status == RunStatus::Paused);
    }
    Ok(match paths.undecided.take() {
        None => Outcome::Done(counted),
        Some((_, undecided)) => Outcome::Postponed(Postponed::Undecided(undecided)),
    })
}

/// Checks the paths of pending tasks. The check of a path set decides for all tasks with this path set. The results are
/// kept for further tries, so that each try makes progress.
#[derive(Default)]
pub struct PathCounter {
    leased: LeasedTasks,
    limit: PairLimit,
    known: HashMap<(Key, Key), bool>,
    /// The path sets of a run that the reader must compare before the count is complete.
    undecided: Option<(Key, Undecided)>,
}

impl PathCounter {
    fn start_try(&mut self) {
        self.limit = PairLimit::default();
        self.undecided = None;
    }

    /// Returns whether the paths of a leased task block the tasks of a run with the path set `set`.
    fn is_blocked(&mut self, tx: &mut dyn Tx, overlaps: &Overlaps, run_key: Key, set: Option<Key>) -> Result<bool> {
        let Some(set) = set else { return Ok(false) };
        if let Some(known) = self.known.get(&(run_key, set)) {
            return Ok(*known);
        }
        let leased = self.leased.list(tx, run_key)?;
        let leased_sets = leased.iter().map(|other| other.path_set_key);
        let check = overlaps.check(tx, set, leased_sets.clone(), &mut self.limit)?;
        if check == PathCheck::Undecided {
            let new = || (run_key, Undecided { sets: Vec::new(), leased: leased_sets.collect() });
            let (of_run, undecided) = self.undecided.get_or_insert_with(new);
            // The leased path sets of another run can be in another repository. A later try compares them.
            if *of_run == run_key && undecided.sets.len() < max_undecided_sets(leased.len()) {
                undecided.sets.push(set);
            }
            return Ok(false);
        }
        let is_blocked = matches!(check, PathCheck::Blocked(_));
        self.known.insert((run_key, set), is_blocked);
        Ok(is_blocked)
    }
}
