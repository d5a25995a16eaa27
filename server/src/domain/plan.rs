//! A plan as it comes in: which draft depends on what, and whether that can ever be done.

use std::collections::{BTreeSet, HashMap};

use super::Key;
use super::task::{TaskDraft, TaskStatus};
use crate::error::{Error, Result};

/// What a draft's dependency turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// The draft with this index, in the same request.
    Draft(usize),
    /// A task that is there already.
    Task(Key),
}

/// A task that is there already, as far as a plan needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ExistingTask {
    pub key: Key,
    pub status: TaskStatus,
}

/// The names in `depends_on` that are no keys of the request: ids to look up, if they are anything.
pub fn ids_to_look_up(drafts: &[TaskDraft]) -> BTreeSet<&str> {
    let keys: BTreeSet<&str> = drafts.iter().map(|draft| draft.key.as_str()).collect();
    drafts.iter().flat_map(|draft| &draft.depends_on).map(String::as_str).filter(|name| !keys.contains(name)).collect()
}

/// What each draft depends on, each thing once.
///
/// `existing` has the tasks of the run that were looked up, by id.
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
    refuse_cycle(drafts, &resolved)?;
    Ok(resolved)
}

fn unique_keys(drafts: &[TaskDraft]) -> Result<HashMap<&str, usize>> {
    let mut keys = HashMap::new();
    for (index, draft) in drafts.iter().enumerate().filter(|(_, draft)| !draft.key.is_empty()) {
        if let Some(first) = keys.insert(draft.key.as_str(), index) {
            let problem = format!("tasks[{first}] has the key {:?} already", draft.key);
            return Err(Error::field(format!("tasks[{index}].key"), problem));
        }
    }
    Ok(keys)
}

fn existing_dependency(name: &str, found: Option<&ExistingTask>, field: &str) -> Result<Dependency> {
    match found {
        None => Err(Error::field(field, format!("{name:?} is neither a key of this request nor a task of this run"))),
        Some(task) if task.status == TaskStatus::Abandoned => Err(Error::WrongStatus {
            current_status: task.status.name(),
            problem: format!("{field}: {name:?} is abandoned, what depends on it could never begin"),
        }),
        Some(task) => Ok(Dependency::Task(task.key)),
    }
}

/// Drafts can depend on each other in a circle; tasks that are there already can't depend on drafts.
fn refuse_cycle(drafts: &[TaskDraft], resolved: &[Vec<Dependency>]) -> Result<()> {
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

/// Depth first, with a path of its own: a plan may be a chain of a thousand.
struct Walk<'a> {
    resolved: &'a [Vec<Dependency>],
    state: Vec<State>,
}

impl Walk<'_> {
    /// The first cycle found from here, its first entry repeated at the end.
    fn cycle_from(&mut self, start: usize) -> Option<Vec<usize>> {
        // Each entry: a draft on the path, and how many of its dependencies were followed.
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
    fn keys_win_over_ids_and_each_thing_counts_once() {
        let drafts = [draft("a", &[]), draft("", &["a", "id", "a"])];
        let resolved = resolve(&drafts, &existing(TaskStatus::Pending)).unwrap();
        assert_eq!(resolved, [vec![], vec![Dependency::Draft(0), Dependency::Task(9)]]);
        assert_eq!(ids_to_look_up(&drafts), BTreeSet::from(["id"]));
    }

    #[test]
    fn a_name_that_is_nothing_is_refused_by_its_field() {
        let refused = resolve(&[draft("", &["nothing"])], &HashMap::new());
        assert!(matches!(refused, Err(Error::InvalidField { field, .. }) if field == "tasks[0].depends_on[0]"));
    }

    #[test]
    fn what_is_abandoned_cannot_be_depended_on() {
        let refused = resolve(&[draft("", &["id"])], &existing(TaskStatus::Abandoned));
        assert!(matches!(refused, Err(Error::WrongStatus { .. })));
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let refused = resolve(&[draft("a", &[]), draft("a", &[])], &HashMap::new());
        assert!(matches!(refused, Err(Error::InvalidField { field, .. }) if field == "tasks[1].key"));
    }

    #[test]
    fn a_cycle_is_named() {
        let drafts = [draft("x", &["b"]), draft("b", &["c"]), draft("c", &["b"])];
        let refused = resolve(&drafts, &HashMap::new());
        assert_eq!(refused, Err(Error::DependencyCycle { cycle: "b -> c -> b".into() }));
        let own = resolve(&[draft("a", &["a"])], &HashMap::new());
        assert_eq!(own, Err(Error::DependencyCycle { cycle: "a -> a".into() }));
    }

    #[test]
    fn a_diamond_and_a_long_chain_are_no_cycles() {
        let diamond = [draft("a", &[]), draft("b", &["a"]), draft("c", &["a"]), draft("d", &["b", "c"])];
        assert!(resolve(&diamond, &HashMap::new()).is_ok());
        let chain: Vec<TaskDraft> = (0..100_000).map(|at| draft(&format!("{at}"), &[&format!("{}", at + 1)])).collect();
        let end = draft("100000", &[]);
        assert!(resolve(&[chain, vec![end]].concat(), &HashMap::new()).is_ok());
    }
}
