//! This module resolves the dependencies of the task drafts in a request. The module refuses dependencies that can
//! never be completed.

use std::collections::{BTreeSet, HashMap};

use super::Key;
use super::task::{TaskDraft, TaskStatus};
use crate::error::{Error, Result};

/// Identifies a dependency of a task draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// The index of another draft in the same request.
    Draft(usize),
    /// The database key of a task that is already part of the run.
    Task(Key),
}

/// Describes a task of the run on which drafts can depend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ExistingTask {
    pub key: Key,
    pub status: TaskStatus,
}

/// Returns the names in `depends_on` that are not draft keys of the request. Each returned name must be a task id.
pub fn dependency_ids(drafts: &[TaskDraft]) -> BTreeSet<&str> {
    let keys: BTreeSet<&str> = drafts.iter().map(|draft| draft.key.as_str()).collect();
    drafts.iter().flat_map(|draft| &draft.depends_on).map(String::as_str).filter(|name| !keys.contains(name)).collect()
}

/// Returns the dependencies of each draft, without duplicates. `existing` contains the tasks of the run whose ids
/// `dependency_ids` returned. Fails if two drafts have the same key, a name in `depends_on` is unknown, a dependency is
/// abandoned, or the drafts form a cycle.
pub fn resolve(drafts: &[TaskDraft], existing: &HashMap<String, ExistingTask>) -> Result<Vec<Vec<Dependency>>> {
    let keys = collect_unique_keys(drafts)?;
    let mut resolved = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let mut dependencies = Vec::with_capacity(draft.depends_on.len());
        let mut known = BTreeSet::new();
        for (at, name) in draft.depends_on.iter().enumerate() {
            let dependency = match keys.get(name.as_str()) {
                Some(other) => Dependency::Draft(*other),
                None => {
                    find_existing_dependency(name, existing.get(name), &format!("tasks[{index}].depends_on[{at}]"))?
                }
            };
            if known.insert(dependency) {
                dependencies.push(dependency);
            }
        }
        resolved.push(dependencies);
    }
    check_no_cycle(drafts, &resolved)?;
    Ok(resolved)
}

fn collect_unique_keys(drafts: &[TaskDraft]) -> Result<HashMap<&str, usize>> {
    let mut keys = HashMap::new();
    for (index, draft) in drafts.iter().enumerate().filter(|(_, draft)| !draft.key.is_empty()) {
        if let Some(first) = keys.insert(draft.key.as_str(), index) {
            let problem = format!(
                "the draft key {:?} must be unique, but tasks[{first}] has the same draft key: change one of the keys",
                draft.key
            );
            return Err(Error::field(format!("tasks[{index}].key"), problem));
        }
    }
    Ok(keys)
}

fn find_existing_dependency(name: &str, found: Option<&ExistingTask>, field: &str) -> Result<Dependency> {
    match found {
        None => {
            let problem =
                format!("dependency {name:?} must be the key of a task in this request or the id of a task of the run");
            Err(Error::field(field, problem))
        }
        Some(task) if task.status == TaskStatus::Abandoned => Err(Error::WrongStatus {
            current_status: task.status.name(),
            problem: format!(
                "{field}: task {name} is ABANDONED, so a task that depends on task {name} could never start: \
                remove the dependency"
            ),
        }),
        Some(task) => Ok(Dependency::Task(task.key)),
    }
}

/// Checks that the drafts form no dependency cycle. Fails if the drafts form a cycle, with an error that names the
/// first cycle found. Existing tasks can't be part of a cycle, because no existing task depends on a draft.
fn check_no_cycle(drafts: &[TaskDraft], resolved: &[Vec<Dependency>]) -> Result<()> {
    let Some(cycle) = find_cycle(resolved) else { return Ok(()) };
    let names: Vec<&str> = cycle.iter().map(|index| drafts[*index].key.as_str()).collect();
    Err(Error::DependencyCycle { cycle: names.join(" -> ") })
}

/// Returns the draft indexes of a cycle in the dependencies of drafts, or None if there is no cycle. The first index is
/// repeated at the end. `resolved` contains the dependencies of each draft.
pub fn find_cycle(resolved: &[Vec<Dependency>]) -> Option<Vec<usize>> {
    let mut search = CycleSearch { resolved, state: vec![VisitState::New; resolved.len()] };
    (0..resolved.len()).find_map(|start| search.find_cycle_from(start))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VisitState {
    New,
    OnPath,
    Done,
}

/// The state of a depth-first search for a cycle in the drafts. The search stores its path in a vector, because
/// recursion over a chain of 1,000 drafts would need a deep call stack.
struct CycleSearch<'a> {
    resolved: &'a [Vec<Dependency>],
    state: Vec<VisitState>,
}

impl CycleSearch<'_> {
    /// Returns the draft indexes of the first cycle that the search finds from the draft `start`, or None if the search
    /// finds no cycle. The first index is repeated at the end.
    fn find_cycle_from(&mut self, start: usize) -> Option<Vec<usize>> {
        // Each entry of `path` contains the index of a draft, and the number of the draft's dependencies that the
        // search has followed.
        let mut path: Vec<(usize, usize)> = Vec::new();
        self.visit(start, &mut path);
        while let Some((draft, followed)) = path.last_mut() {
            let next = self.resolved[*draft].get(*followed).copied();
            *followed += 1;
            match next {
                None => {
                    self.state[*draft] = VisitState::Done;
                    path.pop();
                }
                Some(Dependency::Draft(other)) if self.state[other] == VisitState::OnPath => {
                    let begin = path.iter().position(|(index, _)| *index == other)?;
                    let cycle = path[begin..].iter().map(|(index, _)| *index);
                    return Some(cycle.chain([other]).collect());
                }
                Some(Dependency::Draft(other)) => self.visit(other, &mut path),
                Some(Dependency::Task(_)) => {}
            }
        }
        None
    }

    fn visit(&mut self, draft: usize, path: &mut Vec<(usize, usize)>) {
        if self.state[draft] == VisitState::New {
            self.state[draft] = VisitState::OnPath;
            path.push((draft, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_draft(key: &str, depends_on: &[&str]) -> TaskDraft {
        let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
        TaskDraft { key: key.into(), depends_on, ..TaskDraft::default() }
    }

    fn existing_tasks(status: TaskStatus) -> HashMap<String, ExistingTask> {
        HashMap::from([("id".to_owned(), ExistingTask { key: 9, status })])
    }

    #[test]
    fn draft_keys_take_precedence_over_task_ids_and_each_dependency_counts_once() {
        let drafts = [new_draft("a", &[]), new_draft("", &["a", "id", "a"])];
        let resolved = resolve(&drafts, &existing_tasks(TaskStatus::Pending)).unwrap();
        assert_eq!(resolved, [vec![], vec![Dependency::Draft(0), Dependency::Task(9)]]);
        assert_eq!(dependency_ids(&drafts), BTreeSet::from(["id"]));
    }

    #[test]
    fn error_of_an_unknown_dependency_names_its_field() {
        let refused = resolve(&[new_draft("", &["nothing"])], &HashMap::new());
        assert!(matches!(refused, Err(Error::InvalidField { field, .. }) if field == "tasks[0].depends_on[0]"));
    }

    #[test]
    fn dependency_on_an_abandoned_task_is_refused() {
        let refused = resolve(&[new_draft("", &["id"])], &existing_tasks(TaskStatus::Abandoned));
        assert!(matches!(refused, Err(Error::WrongStatus { .. })));
    }

    #[test]
    fn duplicate_draft_key_is_refused() {
        let refused = resolve(&[new_draft("a", &[]), new_draft("a", &[])], &HashMap::new());
        assert!(matches!(refused, Err(Error::InvalidField { field, .. }) if field == "tasks[1].key"));
    }

    #[test]
    fn error_names_the_cycle() {
        let drafts = [new_draft("x", &["b"]), new_draft("b", &["c"]), new_draft("c", &["b"])];
        let refused = resolve(&drafts, &HashMap::new());
        assert_eq!(refused, Err(Error::DependencyCycle { cycle: "b -> c -> b".into() }));
        let own = resolve(&[new_draft("a", &["a"])], &HashMap::new());
        assert_eq!(own, Err(Error::DependencyCycle { cycle: "a -> a".into() }));
    }

    #[test]
    fn diamond_and_long_chain_are_accepted() {
        let diamond =
            [new_draft("a", &[]), new_draft("b", &["a"]), new_draft("c", &["a"]), new_draft("d", &["b", "c"])];
        assert!(resolve(&diamond, &HashMap::new()).is_ok());
        let chain: Vec<TaskDraft> =
            (0..100_000).map(|at| new_draft(&format!("{at}"), &[&format!("{}", at + 1)])).collect();
        let end = new_draft("100000", &[]);
        assert!(resolve(&[chain, vec![end]].concat(), &HashMap::new()).is_ok());
    }
}
