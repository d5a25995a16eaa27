//! This module converts the lines of a beads ledger to tasks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::graph::{self, Node, Waits};
use super::line::{self, IssueLine};
use super::repairs::Repairs;
use super::rules::{Outcome, Rules};
use crate::domain::task::{TaskSpec, TaskStatus};
use crate::domain::time::Timestamp;
use crate::domain::{Labels, field, limits};
use crate::error::{Error, Result};

/// Represents a parsed beads ledger.
pub struct Ledger {
    /// The issues that become tasks, in the order of the file.
    pub issues: Vec<Issue>,
    /// The repairs that the ledger needed.
    pub repairs: Repairs,
    /// Number of deleted issues, which are left out.
    pub deleted_count: usize,
    /// Number of issues with an unknown status that are left out.
    pub skipped_count: usize,
    /// Number of dependencies on deleted issues, which are satisfied.
    pub satisfied_count: usize,
    /// The names of the issue fields that tasks do not have, each with the number of issues that contain the field.
    pub left_out_fields: BTreeMap<String, usize>,
}

/// Represents an issue of the ledger, converted to the fields of a task.
pub struct Issue {
    /// The id of the issue in the ledger.
    pub id: String,
    /// The status of the task.
    pub status: TaskStatus,
    /// The reason why the task is blocked. If the task is not blocked, the value is None.
    pub blocker_signature: Option<String>,
    /// The content of the task.
    pub spec: TaskSpec,
    /// The issues and the time for which the issue waits. Each dependency is an index in the list of issues.
    pub waits: Waits,
    /// The ids of the issues that block this issue but are not imported.
    pub missing: Vec<String>,
    /// The reason for closing the issue, which becomes the summary of the task. If the ledger contains no reason, the
    /// value is None.
    pub close_reason: Option<String>,
    /// The time at which the issue was created. If None, the task gets the time of the import.
    pub create_time: Option<Timestamp>,
    /// The time of the last update of the issue. If None, the task gets the time of the import.
    pub update_time: Option<Timestamp>,
}

/// The names of issue fields that only repeat information from other fields. The import does not report the redundant
/// fields as left out.
const REDUNDANT_FIELDS: [&str; 4] = ["dependency_count", "dependent_count", "comment_count", "closed_at"];

impl Ledger {
    /// Returns the ledger from the bytes of a file with one JSON object per line. Fails if a line is invalid and has no
    /// plain repair, two issues have the same id, a status is unknown, the parents or the dependencies form a cycle, or
    /// no issue becomes a task.
    pub fn parse(bytes: &[u8], rules: &Rules) -> Result<Self> {
        let mut repairs = Repairs::default();
        let lines = line::read_lines(bytes, &mut repairs)?;
        check_statuses(&lines, rules)?;
        let left_out_fields = count_left_out_fields(&lines);
        let mut deleted = HashSet::new();
        let mut skipped_count = 0;
        let mut kept = Vec::with_capacity(lines.len());
        for line in lines {
            match rules.outcome(&line) {
                Some(Outcome::Deleted) => _ = deleted.insert(line.id),
                Some(Outcome::Skipped) | None => skipped_count += 1,
                Some(outcome) => kept.push((line, outcome)),
            }
        }
        if kept.is_empty() {
            let problem =
                "every issue of the ledger is deleted or left out: pass a ledger with at least one other issue";
            return Err(Error::field("file", problem));
        }
        let (issues, satisfied_count) = convert(kept, &deleted, &mut repairs)?;
        let deleted_count = deleted.len();
        Ok(Self { issues, repairs, deleted_count, skipped_count, satisfied_count, left_out_fields })
    }

    /// Returns a pair of issue ids for each dependency on an issue that is not imported: the dependent issue and the
    /// missing issue.
    pub fn missing_dependencies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.issues.iter().flat_map(|issue| issue.missing.iter().map(|target| (issue.id.as_str(), target.as_str())))
    }
}

/// Fails if a status is unknown. The error names each unknown status with the number of its issues.
fn check_statuses(lines: &[IssueLine], rules: &Rules) -> Result<()> {
    let unknown: Vec<&IssueLine> = lines.iter().filter(|line| rules.outcome(line).is_none()).collect();
    let Some(first) = unknown.first() else { return Ok(()) };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &unknown {
        *counts.entry(&line.status).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(status, count)| format!("{status:?} ({count})")).collect();
    let problem = format!(
        "issue {} has an unknown status. Issues of the ledger have these unknown statuses: {}: pass --unknown-status \
         with pending, blocked or skip",
        first.id,
        counts.join(", ")
    );
    Err(Error::field(format!("line {}: status", first.number), problem))
}

fn count_left_out_fields(lines: &[IssueLine]) -> BTreeMap<String, usize> {
    let mut left_out = BTreeMap::new();
    for name in lines.iter().flat_map(|line| &line.other_fields) {
        if !REDUNDANT_FIELDS.contains(&name.as_str()) {
            *left_out.entry(name.clone()).or_default() += 1;
        }
    }
    left_out
}

/// Returns the issues, and the number of their dependencies on deleted issues.
fn convert(
    kept: Vec<(IssueLine, Outcome)>,
    deleted: &HashSet<String>,
    repairs: &mut Repairs,
) -> Result<(Vec<Issue>, usize)> {
    let indexes: HashMap<&str, usize> =
        kept.iter().enumerate().map(|(index, (line, _))| (line.id.as_str(), index)).collect();
    let mut satisfied_count = 0;
    let mut nodes = Vec::with_capacity(kept.len());
    let mut all_missing = Vec::with_capacity(kept.len());
    for (line, outcome) in &kept {
        nodes.push(new_node(line, *outcome != Outcome::Completed, &indexes)?);
        let blockers = line.links.iter().filter(|link| link.is_blocking() || link.is_waiting_for_children());
        let absent = blockers.map(|link| &link.target).filter(|target| !indexes.contains_key(target.as_str()));
        let (satisfied, missing): (BTreeSet<_>, BTreeSet<_>) = absent.partition(|target| deleted.contains(*target));
        satisfied_count += satisfied.len();
        all_missing.push(missing.into_iter().cloned().collect());
    }
    let waits = graph::resolve(&nodes)?;
    let parts = kept.into_iter().zip(waits).zip(all_missing);
    let issues = parts.map(|(((line, outcome), waits), missing)| new_issue(line, outcome, waits, missing, repairs));
    Ok((issues.collect::<Result<_>>()?, satisfied_count))
}

fn new_node(line: &IssueLine, is_open: bool, indexes: &HashMap<&str, usize>) -> Result<Node> {
    let find = |id: &String| indexes.get(id.as_str()).copied();
    let parent_links = line.links.iter().filter(|link| link.is_to_parent()).map(|link| &link.target);
    let parents: BTreeSet<usize> = line.parent.iter().chain(parent_links).filter_map(find).collect();
    let blockers = line.links.iter().filter(|link| link.is_blocking());
    let spawners = line.links.iter().filter(|link| link.is_waiting_for_children());
    Ok(Node {
        id: line.id.clone(),
        line: line.number,
        is_open,
        parents: parents.into_iter().collect(),
        blockers: blockers.filter_map(|link| find(&link.target)).collect(),
        waits_for_children_of: spawners.filter_map(|link| find(&link.target)).collect(),
        defer_until: parse_time(&line.field("defer_until"), line.defer_until.as_deref())?,
    })
}

fn new_issue(
    line: IssueLine,
    outcome: Outcome,
    waits: Waits,
    missing: Vec<String>,
    repairs: &mut Repairs,
) -> Result<Issue> {
    let (status, blocker_signature) = match outcome {
        Outcome::Completed => (TaskStatus::Completed, None),
        Outcome::Blocked(signature) => (TaskStatus::Blocked, Some(signature)),
        Outcome::Pending | Outcome::Deleted | Outcome::Skipped => (TaskStatus::Pending, None),
    };
    let not_before_time = waits.defer_until.filter(|_| status != TaskStatus::Completed);
    Ok(Issue {
        status,
        blocker_signature: field::optional_text(&line.field("status"), blocker_signature.as_deref())?,
        spec: TaskSpec { not_before_time, ..task_spec(&line, &missing, repairs)? },
        waits,
        missing,
        close_reason: field::optional_text(&line.field("close_reason"), line.close_reason.as_deref())?,
        create_time: parse_time(&line.field("created_at"), line.created_at.as_deref())?,
        update_time: parse_time(&line.field("updated_at"), line.updated_at.as_deref())?,
        id: line.id,
    })
}

fn task_spec(line: &IssueLine, missing: &[String], repairs: &mut Repairs) -> Result<TaskSpec> {
    let description = if line.description.trim().is_empty() { &line.title } else { &line.description };
    let criteria: Vec<String> =
        line.acceptance_criteria.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    Ok(TaskSpec {
        title: field::required_text(&line.field("title"), &line.title)?,
        objective: field::text(&line.field("description"), description)?,
        acceptance_criteria: field::texts(&line.field("acceptance_criteria"), &criteria)?,
        priority: task_priority(&line.field("priority"), line.priority)?,
        labels: field::labels(&line.field("labels"), &task_labels(line, missing, repairs))?,
        ..TaskSpec::default()
    })
}

/// Returns the priority of a task. In beads, 0 is the most urgent priority and 2 is the default. In Runhub, the
/// highest number is the most urgent. Fails if the priority is not between 0 and 4.
fn task_priority(field: &str, priority: Option<i64>) -> Result<i32> {
    match priority.unwrap_or(2) {
        known @ 0..=4 => i32::try_from(4 - known).map_err(Error::internal),
        other => Err(Error::field(field, format!("the priority must be 0 to 4, not {other}: correct the priority"))),
    }
}

/// Returns the labels of a task, which keep the parts of an issue that tasks do not have. If the issue has more labels
/// and links than a task can have labels, the last ones are left out.
fn task_labels(line: &IssueLine, missing: &[String], repairs: &mut Repairs) -> Labels {
    let mut labels = issue_facts(line);
    let of_labels = line.labels.iter().map(|label| (format!("beads.label.{label}"), String::new()));
    let of_missing = missing.iter().map(|target| (format!("beads.missing.{target}"), "blocks".to_owned()));
    let is_parent = |link: &line::Link| link.is_to_parent() && Some(&link.target) == line.parent.as_ref();
    let links = line.links.iter().filter(|link| link.kind != "blocks" && !is_parent(link));
    let of_links = links.map(|link| (format!("beads.{}.{}", link.kind, link.target), String::new()));
    for (key, value) in of_labels.chain(of_missing).chain(of_links) {
        if labels.len() >= limits::LABELS && !labels.contains_key(&key) {
            repairs.add(line.number, "labels", "left out labels and links, because a task has at most 64 labels");
            break;
        }
        labels.insert(key, value);
    }
    labels
}

fn issue_facts(line: &IssueLine) -> Labels {
    let flag = |is_set: bool| if is_set { "true" } else { "" };
    let facts = [
        ("beads.id", line.id.as_str()),
        ("beads.status", &line.status),
        ("beads.type", &line.kind),
        ("beads.parent", line.parent.as_deref().unwrap_or_default()),
        ("beads.assignee", line.assignee.as_deref().unwrap_or_default()),
        ("beads.pinned", flag(line.is_pinned)),
        ("beads.ephemeral", flag(line.is_ephemeral)),
        ("beads.template", flag(line.is_template)),
    ];
    let known = facts.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn parse_time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>> {
    text.filter(|text| !text.is_empty()).map(|text| field::time_from_text(field, text)).transpose()
}

#[cfg(test)]
mod tests;
