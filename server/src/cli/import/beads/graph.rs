//! This module finds the issues for which an issue waits: its own blockers, and the open blockers of its parents at any
//! depth.

use std::collections::HashSet;
use std::rc::Rc;

use crate::domain::plan::{self, Dependency};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};

/// Maximum number of dependencies of one issue. A task lists the ids of its dependencies, and a larger task would not
/// fit into a response.
pub const ISSUE_DEPENDENCIES: usize = 10_000;
/// Maximum number of dependencies of all issues together. A ledger with a long chain of blocked parents would otherwise
/// need memory that grows with the square of its length.
pub const TOTAL_DEPENDENCIES: usize = 1_000_000;
/// Maximum number of ids in the description of a cycle.
const LISTED_IDS: usize = 20;

/// Represents an issue with its links to other issues. Each index is the position of an issue in the list of nodes.
#[derive(Debug, Default)]
pub struct Node {
    /// The id of the issue, for errors.
    pub id: String,
    /// The line of the issue, for errors.
    pub line: usize,
    /// Whether the issue is not closed.
    pub is_open: bool,
    /// The indexes of the parents, without duplicates.
    pub parents: Vec<usize>,
    /// The indexes of the issues that block the issue itself.
    pub blockers: Vec<usize>,
    /// The indexes of the issues for whose children the issue waits.
    pub waits_for_children_of: Vec<usize>,
    /// The time until which the issue is deferred.
    pub defer_until: Option<Timestamp>,
}

/// Contains what an issue waits for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// The indexes of the issues for which the issue waits, without duplicates. The issue's own blockers come first.
    pub dependencies: Vec<usize>,
    /// The number of own blockers in `dependencies`. The other dependencies are blockers of a parent.
    pub own_count: usize,
    /// The latest time until which the issue or a parent is deferred.
    pub defer_until: Option<Timestamp>,
}

/// Returns what each issue waits for. Fails if the parents or the dependencies form a cycle, or if the dependencies
/// exceed a limit.
pub fn resolve(nodes: &[Node]) -> Result<Vec<Waits>> {
    let order = order_parents_first(nodes)?;
    let own = find_own_blockers(nodes)?;
    let passed = pass_to_children(nodes, &own, &order)?;
    let mut budget = Budget::default();
    let mut waits = Vec::with_capacity(nodes.len());
    for (node, own) in nodes.iter().zip(own) {
        let inherited = inherit(node, &passed);
        let own_count = own.len();
        let mut dependencies = own;
        // A closed issue waits for nothing. Its own blockers stay as a record.
        if node.is_open && !inherited.blockers.is_empty() {
            let known: HashSet<usize> = dependencies.iter().copied().collect();
            dependencies.extend(inherited.blockers.iter().filter(|blocker| !known.contains(blocker)));
        }
        budget.spend(node, dependencies.len())?;
        let defer_until = inherited.defer_until.max(node.defer_until);
        waits.push(Waits { dependencies, own_count, defer_until });
    }
    check_no_cycle(nodes, &waits)?;
    Ok(waits)
}

/// Returns the indexes of all issues in an order in which each issue comes after its parents. Fails if an issue is its
/// own ancestor.
fn order_parents_first(nodes: &[Node]) -> Result<Vec<usize>> {
    let children = find_children(nodes);
    let mut missing_parents: Vec<usize> = nodes.iter().map(|node| node.parents.len()).collect();
    let mut order: Vec<usize> = (0..nodes.len()).filter(|index| missing_parents[*index] == 0).collect();
    let mut at = 0;
    while let Some(index) = order.get(at).copied() {
        at += 1;
        for child in &children[index] {
            missing_parents[*child] -= 1;
            if missing_parents[*child] == 0 {
                order.push(*child);
            }
        }
    }
    if order.len() < nodes.len() { Err(parent_cycle_error(nodes)) } else { Ok(order) }
}

fn find_children(nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut children = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for parent in &node.parents {
            children[*parent].push(index);
        }
    }
    children
}

fn parent_cycle_error(nodes: &[Node]) -> Error {
    let parents: Vec<Vec<Dependency>> =
        nodes.iter().map(|node| node.parents.iter().copied().map(Dependency::Draft).collect()).collect();
    let cycle = plan::find_cycle(&parents).unwrap_or_default();
    let line = cycle.first().map_or(0, |index| nodes[*index].line);
    let problem = format!("the parents form the cycle {}: remove one of these parents", describe_cycle(nodes, &cycle));
    Error::field(format!("line {line}: parent"), problem)
}

/// Returns the ids of a cycle, whose first index is repeated at the end. A long cycle is shortened.
fn describe_cycle(nodes: &[Node], cycle: &[usize]) -> String {
    let mut ids: Vec<String> = cycle.iter().map(|index| nodes[*index].id.clone()).collect();
    if ids.len() > LISTED_IDS {
        let more = format!("({} more)", ids.len() - LISTED_IDS);
        ids.splice(LISTED_IDS - 1..ids.len() - 1, [more]);
    }
    ids.join(" -> ")
}

/// Returns the blockers of each issue itself, without duplicates. An issue that waits for the children of another issue
/// waits for the open children, or for the other issue if it has no children.
fn find_own_blockers(nodes: &[Node]) -> Result<Vec<Vec<usize>>> {
    let children = find_children(nodes);
    let mut budget = Budget::default();
    let mut all = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let mut own = node.blockers.clone();
        for spawner in &node.waits_for_children_of {
            let open = children[*spawner].iter().filter(|child| nodes[**child].is_open && **child != index);
            let before = own.len();
            own.extend(open);
            if children[*spawner].is_empty() {
                own.push(*spawner);
            }
            budget.spend(node, own.len() - before)?;
        }
        let mut seen = HashSet::new();
        own.retain(|blocker| seen.insert(*blocker));
        all.push(own);
    }
    Ok(all)
}

/// Contains what an issue passes to its children.
#[derive(Clone)]
struct Passed {
    /// The indexes of the open blockers of the issue and of its ancestors, in ascending order. Issues with the same
    /// blockers share one list, so that a long chain of parents needs little memory.
    blockers: Rc<[usize]>,
    defer_until: Option<Timestamp>,
}

impl Passed {
    fn nothing() -> Self {
        Self { blockers: Rc::new([]), defer_until: None }
    }
}

/// Returns what each issue passes to its children. `order` lists each issue after its parents.
fn pass_to_children(nodes: &[Node], own: &[Vec<usize>], order: &[usize]) -> Result<Vec<Passed>> {
    let mut budget = Budget::default();
    let mut passed = vec![Passed::nothing(); nodes.len()];
    for index in order {
        let node = &nodes[*index];
        let inherited = inherit(node, &passed);
        let open = own[*index].iter().copied().filter(|blocker| nodes[*blocker].is_open);
        let mut blockers = inherited.blockers;
        let new: Vec<usize> = open.filter(|blocker| blockers.binary_search(blocker).is_err()).collect();
        if !new.is_empty() || node.parents.len() > 1 {
            budget.spend(node, blockers.len() + new.len())?;
        }
        if !new.is_empty() {
            blockers = merge(blockers.iter().copied().chain(new));
        }
        passed[*index] = Passed { blockers, defer_until: inherited.defer_until.max(node.defer_until) };
    }
    Ok(passed)
}

/// Returns what the parents of an issue pass to the issue.
fn inherit(node: &Node, passed: &[Passed]) -> Passed {
    match node.parents.as_slice() {
        [] => Passed::nothing(),
        [parent] => passed[*parent].clone(),
        parents => Passed {
            blockers: merge(parents.iter().flat_map(|parent| passed[*parent].blockers.iter().copied())),
            defer_until: parents.iter().filter_map(|parent| passed[*parent].defer_until).max(),
        },
    }
}

fn merge(blockers: impl Iterator<Item = usize>) -> Rc<[usize]> {
    let mut merged: Vec<usize> = blockers.collect();
    merged.sort_unstable();
    merged.dedup();
    merged.into()
}

/// Counts dependencies, so that the import stops before a ledger uses too much memory.
#[derive(Default)]
struct Budget {
    used: usize,
}

impl Budget {
    /// Counts dependencies of an issue. Fails if the issue or all issues together exceed the limit.
    fn spend(&mut self, node: &Node, count: usize) -> Result<()> {
        self.used += count;
        let problem = if count > ISSUE_DEPENDENCIES {
            format!("issue {} waits for more than {ISSUE_DEPENDENCIES} issues", node.id)
        } else if self.used > TOTAL_DEPENDENCIES {
            format!("the issues up to {} have more than {TOTAL_DEPENDENCIES} dependencies together", node.id)
        } else {
            return Ok(());
        };
        let problem = format!("{problem}, counting the open blockers of the parents: remove blockers or parents");
        Err(Error::field(format!("line {}: dependencies", node.line), problem))
    }
}

/// Fails if the dependencies form a cycle. The error explains the first dependency of the cycle that comes from a
/// parent, because the ledger does not contain that dependency itself.
fn check_no_cycle(nodes: &[Node], waits: &[Waits]) -> Result<()> {
    let drafts: Vec<Vec<Dependency>> =
        waits.iter().map(|waits| waits.dependencies.iter().copied().map(Dependency::Draft).collect()).collect();
    let Some(cycle) = plan::find_cycle(&drafts) else { return Ok(()) };
    let described = describe_cycle(nodes, &cycle);
    let is_inherited = |pair: &&[usize]| !waits[pair[0]].dependencies[..waits[pair[0]].own_count].contains(&pair[1]);
    let Some(pair) = cycle.windows(2).find(is_inherited) else {
        return Err(Error::DependencyCycle { cycle: described });
    };
    let (issue, blocker) = (&nodes[pair[0]], &nodes[pair[1]]);
    let problem = format!(
        "the issues wait for each other in the cycle {described}, where {} waits for {} because {} blocks a parent of {}: \
         remove one of these dependencies",
        issue.id, blocker.id, blocker.id, issue.id
    );
    Err(Error::field(format!("line {}: dependencies", issue.line), problem))
}

#[cfg(test)]
mod tests;
