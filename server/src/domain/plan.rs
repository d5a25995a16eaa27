//! Plans: which tasks the drafts of a request depend on, and whether these dependencies can ever be completed.

use std::collections::{BTreeSet, HashMap};

use super::Key;
use super::task::{TaskDraft, TaskStatus};
use crate::error::{Error, Result};

/// A dependency of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// The draft with this index, in the same request.
    Draft(usize),
    /// A task of the run with this key.
    Task(Key),
}

/// A task of the run that drafts can depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ExistingTask {
    pub key: Key,
    pub status: TaskStatus,
}

/// Returns the names in `depends_on` that are not keys of the request, so they must be ids of tasks.
pub fn dependency_ids(drafts: &[TaskDraft]) -> BTreeSet<&str> {
    let keys: BTreeSet<&str> = drafts.iter().map(|draft| draft.key.as_str()).collect();
    drafts.iter().flat_map(|draft| &draft.depends_on).map(String::as_str).filter(|name| !keys.contains(name)).collect()
}

/// Returns the dependencies of each draft, each dependency once. `existing` contains the tasks of the run with the ids
/// that `dependency_ids` returned. Fails if a name is unknown, a task is abandoned, or the drafts form a cycle.
pub fn resolve(drafts: &[TaskDraft], existing: &HashMap<String, ExistingTask>) -> Result<Vec<Vec<Dependency>>> {
    let keys = unique_keys(drafts)?;
    let mut resolved = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let mut dependencies = Vec::with_capacity(draft.depends_on.len());
        for (at, name) in draft.depends_on.iter().enumerate() {
            let dependency = match keys.get(name.as_str()) {
                Some(other) => Dependency::Draft(*other),
                None => existing_dependency(name, existing.get(name), &format!("tasks[{index}].depends_on[{at}]"))?,
            };
            if !dependencies.contains(&dependency) {
                dependencies.push(dependency);
            }
        }
        resolved.push(dependencies);
    }
    check_no_cycle(drafts, &resolved)?;
    Ok(resolved)
}

fn unique_keys(drafts: &[TaskDraft]) -> Result<HashMap<&str, usize>> {
    let mut keys = HashMap::new();
    for (index, draft) in drafts.iter().enumerate().filter(|(_, draft)| !draft.key.is_empty()) {
        if let Some(first) = keys.insert(draft.key.as_str(), index) {
            let problem = format!("must be unique, but tasks[{first}] has the key {:?} too", draft.key);
            return Err(Error::field(format!("tasks[{index}].key"), problem));
        }
    }
    Ok(keys)
}

fn existing_dependency(name: &str, found: Option<&ExistingTask>, field: &str) -> Result<Dependency> {
    match found {
        None => Err(Error::field(field, format!("must be a key of this request or a task of this run, not {name:?}"))),
        Some(task) if task.status == TaskStatus::Abandoned => Err(Error::WrongStatus {
            current_status: task.status.name(),
            problem: format!("{field}: task {name} is ABANDONED, so a task that depends on it could never start"),
        }),
        Some(task) => Ok(Dependency::Task(task.key)),
    }
}

/// Checks that the drafts form no cycle. Existing tasks can't be part of one, because they don't depend on drafts.
fn check_no_cycle(drafts: &[TaskDraft], resolved: &[Vec<Dependency>]) -> Result<()> {
    let mut walk = Walk { resolved, state: vec![State::New; drafts.len()] };
    for start in 0..drafts.len() {
        if let Some(cycle) = walk.cycle_from(start) {
            let names: Vec<&str> = cycle.iter().map(|index| drafts[*index].key.as_str()).collect();
            return Err(Error::DependencyCycle { cycle: names.join(" -> ") });
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    OnPath,
    Done,
}

/// A depth-first walk with its path on the heap, because a chain of a thousand drafts would be a deep recursion.
struct Walk<'a> {
    resolved: &'a [Vec<Dependency>],
    state: Vec<State>,
}

impl Walk<'_> {
    /// Returns the first cycle found from a draft, with its first entry repeated at the end.
    fn cycle_from(&mut self, start: usize) -> Option<Vec<usize>> {
        // Each entry is a draft, and the number of its dependencies that the walk has followed.
        let mut path: Vec<(usize, usize)> = Vec::new();
        self.enter(start, &mut path);
        while let Some((draft, followed)) = path.last_mut() {
            let next = self.resolved[*draft].get(*followed).copied();
            *followed += 1;
            match next {
                None => {
                    self.state[*draft] = State::Done;
                    path.pop();
                }
                Some(Dependency::Draft(other)) if self.state[other] == State::OnPath => {
                    let begin = path.iter().position(|(index, _)| *index == other)?;
                    let cycle = path[begin..].iter().map(|(index, _)| *index);
                    return Some(cycle.chain([other]).collect());
                }
                Some(Dependency::Draft(other)) => self.enter(other, &mut path),
                Some(Dependency::Task(_)) => {}
            }
        }
        None
    }

    fn enter(&mut self, draft: usize, path: &mut Vec<(usize, usize)>) {
        if self.state[draft] == State::New {
            self.state[draft] = State::OnPath;
            path.push((draft, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(key: &str, depends_on: &[&str]) -> TaskDraft {
        let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
        TaskDraft { key: key.into(), depends_on, ..TaskDraft::default() }
    }

    fn existing(status: TaskStatus) -> HashMap<String, ExistingTask> {
        HashMap::from([("id".to_owned(), ExistingTask { key: 9, status })])
    }

    #[test]
    fn keys_take_precedence_over_ids_and_each_dependency_counts_once() {
        let drafts = [draft("a", &[]), draft("", &["a", "id", "a"])];
        let resolved = resolve(&drafts, &existing(TaskStatus::Pending)).unwrap();
        assert_eq!(resolved, [vec![], vec![Dependency::Draft(0), Dependency::Task(9)]]);
        assert_eq!(dependency_ids(&drafts), BTreeSet::from(["id"]));
    }

    #[test]
    fn unknown_dependency_is_refused_by_its_field() {
        let refused = resolve(&[draft("", &["nothing"])], &HashMap::new());
        assert!(matches!(refused, Err(Error::InvalidField { field, .. }) if field == "tasks[0].depends_on[0]"));
    }

    #[test]
    fn dependency_on_an_abandoned_task_is_refused() {
        let refused = resolve(&[draft("", &["id"])], &existing(TaskStatus::Abandoned));
        assert!(matches!(refused, Err(Error::WrongStatus { .. })));
    }

    #[test]
    fn duplicate_key_is_refused() {
        let refused = resolve(&[draft("a", &[]), draft("a", &[])], &HashMap::new());
        assert!(matches!(refused, Err(Error::InvalidField { field, .. }) if field == "tasks[1].key"));
    }

    #[test]
    fn error_names_the_cycle() {
        let drafts = [draft("x", &["b"]), draft("b", &["c"]), draft("c", &["b"])];
        let refused = resolve(&drafts, &HashMap::new());
        assert_eq!(refused, Err(Error::DependencyCycle { cycle: "b -> c -> b".into() }));
        let own = resolve(&[draft("a", &["a"])], &HashMap::new());
        assert_eq!(own, Err(Error::DependencyCycle { cycle: "a -> a".into() }));
    }

    #[test]
    fn diamond_and_long_chain_are_accepted() {
        let diamond = [draft("a", &[]), draft("b", &["a"]), draft("c", &["a"]), draft("d", &["b", "c"])];
        assert!(resolve(&diamond, &HashMap::new()).is_ok());
        let chain: Vec<TaskDraft> = (0..100_000).map(|at| draft(&format!("{at}"), &[&format!("{}", at + 1)])).collect();
        let end = draft("100000", &[]);
        assert!(resolve(&[chain, vec![end]].concat(), &HashMap::new()).is_ok());
    }
}
