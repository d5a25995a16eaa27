//! Parses a beads ledger into tasks.

use std::collections::{BTreeMap, HashSet};

use prost_types::Timestamp as ProtoTimestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::domain::Labels;
use crate::domain::task::{TaskDraft, TaskSpec};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::rpc::field;

/// A parsed ledger.
pub struct Ledger {
    /// In the order of the file.
    pub issues: Vec<Issue>,
    /// The fields that tasks do not have, with the number of issues that have them.
    pub left_out: BTreeMap<String, usize>,
}

/// An issue, parsed into the fields of a task.
pub struct Issue {
    /// The issue's id in the ledger.
    pub id: String,
    /// A closed issue becomes a completed task, any other issue a pending one.
    pub is_closed: bool,
    /// The content of the task.
    pub spec: TaskSpec,
    /// Ids of the issues in the ledger that block this one.
    pub blocked_by: Vec<String>,
    /// Ids of blocking issues that are not in the ledger.
    pub missing: Vec<String>,
    /// The reason for closing, which becomes the task's summary.
    pub close_reason: Option<String>,
    /// None: the time of the import.
    pub create_time: Option<Timestamp>,
    /// None: the time of the import.
    pub update_time: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Line {
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
    dependencies: Vec<Link>,
    close_reason: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
    /// All other fields: counts, and fields that tasks do not have.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Link {
    depends_on_id: String,
    #[serde(rename = "type")]
    kind: String,
}

/// Fields that repeat what other fields say.
const REDUNDANT_FIELDS: [&str; 4] = ["dependency_count", "dependent_count", "comment_count", "closed_at"];

impl Ledger {
    /// Parses a ledger with one JSON object per line. Fails if a line is invalid, an id occurs twice, or there is no issue.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::field("file", "is not UTF-8 text"))?;
        let mut lines = Vec::new();
        for (at, text) in (1..).zip(text.lines()) {
            if !text.trim().is_empty() {
                lines.push((at, parse_line(at, text)?));
            }
        }
        if lines.is_empty() {
            return Err(Error::field("file", "has no issues"));
        }
        let mut ids = HashSet::new();
        if let Some((at, line)) = lines.iter().find(|(_, line)| !ids.insert(line.id.clone())) {
            return Err(Error::field(format!("line {at}"), format!("the id {} occurs twice in the ledger", line.id)));
        }
        let left_out = left_out(lines.iter().map(|(_, line)| line));
        let issues = lines.into_iter().map(|(at, line)| issue(at, line, &ids)).collect::<Result<_>>()?;
        Ok(Self { issues, left_out })
    }

    /// Returns a draft of each issue with its id as the key, to resolve dependencies.
    pub fn drafts(&self) -> Vec<TaskDraft> {
        let draft = |issue: &Issue| TaskDraft {
            key: issue.id.clone(),
            spec: TaskSpec::default(),
            depends_on: issue.blocked_by.clone(),
        };
        self.issues.iter().map(draft).collect()
    }

    /// Returns pairs of an issue and a blocking issue that is not in the ledger.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.issues.iter().flat_map(|issue| issue.missing.iter().map(|target| (issue.id.as_str(), target.as_str())))
    }
}

fn parse_line(at: usize, text: &str) -> Result<Line> {
    serde_json::from_str(text).map_err(|error| Error::field(format!("line {at}"), error.to_string()))
}

fn left_out<'a>(lines: impl Iterator<Item = &'a Line>) -> BTreeMap<String, usize> {
    let mut left_out = BTreeMap::new();
    for name in lines.flat_map(|line| line.rest.keys()).filter(|name| !REDUNDANT_FIELDS.contains(&name.as_str())) {
        *left_out.entry(name.clone()).or_default() += 1;
    }
    left_out
}

fn issue(at: usize, line: Line, ids: &HashSet<String>) -> Result<Issue> {
    let name = |name: &str| format!("line {at}: {name}");
    field::name(&name("id"), &line.id)?;
    let blocks = line.dependencies.iter().filter(|link| link.kind == "blocks").map(|link| link.depends_on_id.clone());
    let (blocked_by, missing): (Vec<_>, Vec<_>) = blocks.partition(|id| ids.contains(id));
    Ok(Issue {
        is_closed: line.status == "closed",
        spec: spec(&name, &line, &missing)?,
        blocked_by,
        missing,
        close_reason: field::optional_text(&name("close_reason"), line.close_reason.as_deref())?,
        create_time: time(&name("created_at"), line.created_at.as_deref())?,
        update_time: time(&name("updated_at"), line.updated_at.as_deref())?,
        id: line.id,
    })
}

fn spec(name: &impl Fn(&str) -> String, line: &Line, missing: &[String]) -> Result<TaskSpec> {
    let description = if line.description.trim().is_empty() { &line.title } else { &line.description };
    let criteria: Vec<String> =
        line.acceptance_criteria.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    Ok(TaskSpec {
        title: field::required_text(&name("title"), &line.title)?,
        objective: field::text(&name("description"), description)?,
        acceptance_criteria: field::texts(&name("acceptance_criteria"), &criteria)?,
        priority: priority(&name("priority"), line.priority)?,
        labels: field::labels(&name("labels"), &labels(line, missing))?,
        ..TaskSpec::default()
    })
}

/// Returns the task's priority. In beads 0 is the most urgent, in Runhub the highest number. The default in beads is 2.
fn priority(field: &str, priority: Option<i64>) -> Result<i32> {
    match priority.unwrap_or(2) {
        known @ 0..=4 => i32::try_from(4 - known).map_err(Error::internal),
        other => Err(Error::field(field, format!("is {other}, but must be between 0 and 4"))),
    }
}

fn labels(line: &Line, missing: &[String]) -> Labels {
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
    let is_parent = |link: &Link| link.kind == "parent-child" && Some(&link.depends_on_id) == line.parent.as_ref();
    for link in line.dependencies.iter().filter(|link| link.kind != "blocks" && !is_parent(link)) {
        labels.insert(format!("beads.{}.{}", link.kind, link.depends_on_id), String::new());
    }
    labels
}

fn time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let time =
        text.parse::<ProtoTimestamp>().map_err(|_| Error::field(field, format!("{text:?} is not an RFC 3339 time")))?;
    field::time(field, Some(&time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Ledger> {
        Ledger::parse(lines.join("\n").as_bytes())
    }

    const A: &str = r#"{"id":"a","title":"A","status":"closed","priority":0,"issue_type":"bug","description":" ","acceptance_criteria":"one\n\ntwo","parent":"p","assignee":"me","labels":["x:y"],"notes":"n","created_at":"2026-01-02T03:04:05Z","dependency_count":1,"dependencies":[{"depends_on_id":"b","type":"blocks"},{"depends_on_id":"gone","type":"blocks"},{"depends_on_id":"b","type":"tracks"},{"depends_on_id":"p","type":"parent-child"},{"depends_on_id":"q","type":"parent-child"}]}"#;
    const B: &str = r#"{"id":"b","title":"B","status":"hooked","description":"d"}"#;

    #[test]
    fn issue_becomes_a_task() {
        let ledger = parse(&[A, "", B]).unwrap();
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
        let ledger = parse(&[A, B]).unwrap();
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
    fn blocks_become_dependencies_and_missing_issues_are_reported() {
        let ledger = parse(&[A, B]).unwrap();
        assert_eq!(ledger.issues[0].blocked_by, ["b"]);
        assert_eq!(ledger.missing().collect::<Vec<_>>(), [("a", "gone")]);
    }

    #[test]
    fn invalid_line_is_named() {
        for (lines, field) in [
            (vec![B, "{"], "line 2"),
            (vec![B, B], "line 2"),
            (vec![r#"{"id":" ","title":"t"}"#], "line 1: id"),
            (vec![r#"{"id":"a","title":""}"#], "line 1: title"),
            (vec![r#"{"id":"a","title":"t","priority":5}"#], "line 1: priority"),
            (vec![r#"{"id":"a","title":"t","created_at":"soon"}"#], "line 1: created_at"),
        ] {
            let refused = parse(&lines).err();
            assert!(
                matches!(&refused, Some(Error::InvalidField { field: named, .. }) if named == field),
                "{refused:?}"
            );
        }
    }
}
