//! This module parses a beads ledger into tasks.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use crate::domain::task::{TaskDraft, TaskSpec};
use crate::domain::time::Timestamp;
use crate::domain::{Labels, field};
use crate::error::{Error, Result};

/// Represents a parsed beads ledger.
pub struct Ledger {
    /// The issues of the ledger, in the order of the file.
    pub issues: Vec<Issue>,
    /// The names of the issue fields that tasks do not have, each with the number of issues that contain the field.
    pub left_out: BTreeMap<String, usize>,
}

/// Represents an issue of the ledger, converted to the fields of a task.
pub struct Issue {
    /// The id of the issue in the ledger.
    pub id: String,
    /// Whether the issue is closed. A closed issue becomes a completed task, and any other issue becomes a pending
    /// task.
    pub is_closed: bool,
    /// The content of the task that the issue becomes.
    pub spec: TaskSpec,
    /// The ids of the issues in the ledger that block this issue.
    pub blocked_by: Vec<String>,
    /// The ids of the issues that block this issue but are not in the ledger.
    pub missing: Vec<String>,
    /// The reason for closing the issue, which becomes the summary of the task. If the ledger contains no reason, the
    /// value is None.
    pub close_reason: Option<String>,
    /// The time at which the issue was created. If None, the task gets the time of the import.
    pub create_time: Option<Timestamp>,
    /// The time of the last update of the issue. If None, the task gets the time of the import.
    pub update_time: Option<Timestamp>,
}

#[derive(Deserialize)]
struct IssueLine {
    id: String,
    title: String,
    #[serde(default)]
    status: String,
    priority: Option<i64>,
    #[serde(default)]
    issue_type: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    acceptance_criteria: String,
    parent: Option<String>,
    assignee: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    dependencies: Vec<IssueLink>,
    close_reason: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
    /// The fields of the line that have no member of their own in this struct, by name.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct IssueLink {
    depends_on_id: String,
    #[serde(rename = "type")]
    kind: String,
}

/// The names of issue fields that only repeat information from other fields. The import does not report the redundant
/// fields as left out.
const REDUNDANT_FIELDS: [&str; 4] = ["dependency_count", "dependent_count", "comment_count", "closed_at"];

impl Ledger {
    /// Returns the ledger from the bytes of a file with one JSON object per line. Fails if the file is not UTF-8 text,
    /// a line is invalid, two issues have the same id, or the ledger has no issues.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Error::field("file", "the ledger is not UTF-8 text: convert the file to UTF-8"))?;
        let mut lines = Vec::new();
        for (at, text) in (1..).zip(text.lines()) {
            if !text.trim().is_empty() {
                lines.push((at, parse_line(at, text)?));
            }
        }
        if lines.is_empty() {
            return Err(Error::field("file", "the ledger contains no issues: pass a ledger with at least one issue"));
        }
        let mut ids = HashSet::new();
        if let Some((at, line)) = lines.iter().find(|(_, line)| !ids.insert(line.id.clone())) {
            return Err(Error::field(
                format!("line {at}"),
                format!("the issue id {} must be unique, but occurs twice: remove a duplicate", line.id),
            ));
        }
        let left_out = count_left_out_fields(lines.iter().map(|(_, line)| line));
        let issues = lines.into_iter().map(|(at, line)| parse_issue(at, line, &ids)).collect::<Result<_>>()?;
        Ok(Self { issues, left_out })
    }

    /// Returns one task draft for each issue. The key of the draft is the id of the issue, so that `plan::resolve` can
    /// resolve the dependencies between the issues.
    pub fn drafts(&self) -> Vec<TaskDraft> {
        let draft = |issue: &Issue| TaskDraft {
            key: issue.id.clone(),
            spec: TaskSpec::default(),
            depends_on: issue.blocked_by.clone(),
        };
        self.issues.iter().map(draft).collect()
    }

    /// Returns a pair of issue ids for each dependency on an issue that is not in the ledger: the dependent issue and
    /// the missing issue.
    pub fn missing_dependencies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.issues.iter().flat_map(|issue| issue.missing.iter().map(|target| (issue.id.as_str(), target.as_str())))
    }
}

fn parse_line(at: usize, text: &str) -> Result<IssueLine> {
    serde_json::from_str(text).map_err(|error| Error::field(format!("line {at}"), error.to_string()))
}

fn count_left_out_fields<'a>(lines: impl Iterator<Item = &'a IssueLine>) -> BTreeMap<String, usize> {
    let mut left_out = BTreeMap::new();
    for name in lines.flat_map(|line| line.rest.keys()).filter(|name| !REDUNDANT_FIELDS.contains(&name.as_str())) {
        *left_out.entry(name.clone()).or_default() += 1;
    }
    left_out
}

fn parse_issue(at: usize, line: IssueLine, ids: &HashSet<String>) -> Result<Issue> {
    let name = |name: &str| format!("line {at}: {name}");
    field::name(&name("id"), &line.id)?;
    let blocks = line.dependencies.iter().filter(|link| link.kind == "blocks").map(|link| link.depends_on_id.clone());
    let (blocked_by, missing): (Vec<_>, Vec<_>) = blocks.partition(|id| ids.contains(id));
    Ok(Issue {
        is_closed: line.status == "closed",
        spec: task_spec(&name, &line, &missing)?,
        blocked_by,
        missing,
        close_reason: field::optional_text(&name("close_reason"), line.close_reason.as_deref())?,
        create_time: parse_time(&name("created_at"), line.created_at.as_deref())?,
        update_time: parse_time(&name("updated_at"), line.updated_at.as_deref())?,
        id: line.id,
    })
}

fn task_spec(name: &impl Fn(&str) -> String, line: &IssueLine, missing: &[String]) -> Result<TaskSpec> {
    let description = if line.description.trim().is_empty() { &line.title } else { &line.description };
    let criteria: Vec<String> =
        line.acceptance_criteria.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    Ok(TaskSpec {
        title: field::required_text(&name("title"), &line.title)?,
        objective: field::text(&name("description"), description)?,
        acceptance_criteria: field::texts(&name("acceptance_criteria"), &criteria)?,
        priority: task_priority(&name("priority"), line.priority)?,
        labels: field::labels(&name("labels"), &task_labels(line, missing))?,
        ..TaskSpec::default()
    })
}

/// Returns the priority of a task. In beads, 0 is the most urgent priority and 2 is the default. In Runhub, the
/// highest number is the most urgent. Fails if the priority is not between 0 and 4.
fn task_priority(field: &str, priority: Option<i64>) -> Result<i32> {
    match priority.unwrap_or(2) {
        known @ 0..=4 => i32::try_from(4 - known).map_err(Error::internal),
        other => Err(Error::field(field, format!("the priority must be 0 to 4, not {other}"))),
    }
}

fn task_labels(line: &IssueLine, missing: &[String]) -> Labels {
    let mut labels = Labels::from([("beads.id".to_owned(), line.id.clone())]);
    let facts = [
        ("beads.status", Some(&line.status)),
        ("beads.type", Some(&line.issue_type)),
        ("beads.parent", line.parent.as_ref()),
        ("beads.assignee", line.assignee.as_ref()),
    ];
    for (key, value) in facts {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            labels.insert(key.to_owned(), value.clone());
        }
    }
    for label in &line.labels {
        labels.insert(format!("beads.label.{label}"), String::new());
    }
    for target in missing {
        labels.insert(format!("beads.missing.{target}"), "blocks".to_owned());
    }
    let is_parent = |link: &IssueLink| link.kind == "parent-child" && Some(&link.depends_on_id) == line.parent.as_ref();
    for link in line.dependencies.iter().filter(|link| link.kind != "blocks" && !is_parent(link)) {
        labels.insert(format!("beads.{}.{}", link.kind, link.depends_on_id), String::new());
    }
    labels
}

fn parse_time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>> {
    text.filter(|text| !text.is_empty()).map(|text| field::time_from_text(field, text)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_lines(lines: &[&str]) -> Result<Ledger> {
        Ledger::parse(lines.join("\n").as_bytes())
    }

    const A: &str = r#"{"id":"a","title":"A","status":"closed","priority":0,"issue_type":"bug","description":" ","acceptance_criteria":"one\n\ntwo","parent":"p","assignee":"me","labels":["x:y"],"notes":"n","created_at":"2026-01-02T03:04:05Z","dependency_count":1,"dependencies":[{"depends_on_id":"b","type":"blocks"},{"depends_on_id":"gone","type":"blocks"},{"depends_on_id":"b","type":"tracks"},{"depends_on_id":"p","type":"parent-child"},{"depends_on_id":"q","type":"parent-child"}]}"#;
    const B: &str = r#"{"id":"b","title":"B","status":"hooked","description":"d"}"#;

    #[test]
    fn issue_becomes_a_task() {
        let ledger = parse_lines(&[A, "", B]).unwrap();
        let a = &ledger.issues[0];
        assert_eq!((a.is_closed, a.spec.priority, a.spec.objective.as_str()), (true, 4, "A"));
        assert_eq!(a.spec.acceptance_criteria, ["one", "two"]);
        assert_eq!(a.create_time, Timestamp::from_seconds_and_nanos(1_767_323_045, 0));
        let b = &ledger.issues[1];
        assert_eq!((b.is_closed, b.spec.priority, b.spec.objective.as_str()), (false, 2, "d"));
        assert_eq!(ledger.left_out, BTreeMap::from([("notes".to_owned(), 1)]));
    }

    #[test]
    fn fields_that_tasks_do_not_have_are_kept_as_labels() {
        let ledger = parse_lines(&[A, B]).unwrap();
        let labels: Vec<(&str, &str)> =
            ledger.issues[0].spec.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let expected = [
            ("beads.assignee", "me"),
            ("beads.id", "a"),
            ("beads.label.x:y", ""),
            ("beads.missing.gone", "blocks"),
            ("beads.parent", "p"),
            ("beads.parent-child.q", ""),
            ("beads.status", "closed"),
            ("beads.tracks.b", ""),
            ("beads.type", "bug"),
        ];
        assert_eq!(labels, expected);
    }

    #[test]
    fn blocking_issues_become_dependencies_and_missing_issues_are_reported() {
        let ledger = parse_lines(&[A, B]).unwrap();
        assert_eq!(ledger.issues[0].blocked_by, ["b"]);
        assert_eq!(ledger.missing_dependencies().collect::<Vec<_>>(), [("a", "gone")]);
    }

    #[test]
    fn error_names_the_invalid_line() {
        for (lines, field) in [
            (vec![B, "{"], "line 2"),
            (vec![B, B], "line 2"),
            (vec![r#"{"id":" ","title":"t"}"#], "line 1: id"),
            (vec![r#"{"id":"a","title":""}"#], "line 1: title"),
            (vec![r#"{"id":"a","title":"t","priority":5}"#], "line 1: priority"),
            (vec![r#"{"id":"a","title":"t","created_at":"soon"}"#], "line 1: created_at"),
        ] {
            let refused = parse_lines(&lines).err();
            assert!(
                matches!(&refused, Some(Error::InvalidField { field: named, .. }) if named == field),
                "the error must name {field}: {refused:?}"
            );
        }
    }
}
