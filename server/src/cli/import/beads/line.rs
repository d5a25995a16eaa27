//! This module reads the lines of a beads ledger, and repairs a line if the repair is plain.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::fields::Fields;
use super::repairs::Repairs;
use crate::domain::field;
use crate::error::{Error, Result};

/// Represents one line of the ledger, which describes one issue.
#[derive(Default)]
pub struct IssueLine {
    /// The number of the line, counted from 1.
    pub number: usize,
    pub id: String,
    pub title: String,
    /// The status. The default of beads is `open`.
    pub status: String,
    /// The kind of the issue, from the field `issue_type`, else `type`. If both are missing, the kind is empty.
    pub kind: String,
    pub priority: Option<i64>,
    pub description: String,
    pub acceptance_criteria: String,
    pub parent: Option<String>,
    pub assignee: Option<String>,
    pub labels: Vec<String>,
    pub links: Vec<Link>,
    pub close_reason: Option<String>,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    pub defer_until: Option<String>,
    /// Whether the issue is a persistent note, which beads does not count as work.
    pub is_pinned: bool,
    /// Whether the issue is a wisp: a step that beads deletes later and does not show as ready.
    pub is_ephemeral: bool,
    /// Whether the issue is a template for other issues.
    pub is_template: bool,
    /// The names of the other fields, which the import does not read.
    pub other_fields: Vec<String>,
}

impl IssueLine {
    /// Returns the name of a field of this line for errors, for example `line 3: title`.
    pub fn field(&self, name: &str) -> String {
        format!("line {}: {name}", self.number)
    }
}

/// Represents an entry of the list `dependencies`: a link from an issue to another issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The type of the link as in the ledger, for example `blocks`.
    pub kind: String,
    /// The id of the other issue.
    pub target: String,
}

impl Link {
    /// Returns whether the issue waits until the other issue is closed.
    pub fn is_blocking(&self) -> bool {
        matches!(self.kind.as_str(), "blocks" | "conditional-blocks")
    }

    /// Returns whether the issue waits until the children of the other issue are closed.
    pub fn is_waiting_for_children(&self) -> bool {
        self.kind == "waits-for"
    }

    /// Returns whether the other issue is the parent of the issue.
    pub fn is_to_parent(&self) -> bool {
        self.kind == "parent-child"
    }
}

/// The types of links that beads defines.
const LINK_KINDS: [&str; 19] = [
    "blocks",
    "parent-child",
    "conditional-blocks",
    "waits-for",
    "related",
    "relates-to",
    "discovered-from",
    "replies-to",
    "duplicates",
    "supersedes",
    "authored-by",
    "assigned-to",
    "approved-by",
    "attests",
    "tracks",
    "until",
    "caused-by",
    "validates",
    "delegated-from",
];

/// Returns the lines of a ledger with one JSON object per line. Blank lines and repeated equal lines are left out. Fails
/// if the text is not UTF-8, a line is invalid, two different lines have the same id, or the ledger has no issues.
pub fn read_lines(bytes: &[u8], repairs: &mut Repairs) -> Result<Vec<IssueLine>> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Error::field("file", "the ledger is not UTF-8 text: convert the file to UTF-8"))?;
    let mut lines = Vec::new();
    let mut first_lines: HashMap<String, (usize, &str)> = HashMap::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = strip_line(number, line, repairs);
        if line.is_empty() {
            continue;
        }
        let issue = parse_line(number, line, repairs)?;
        match first_lines.get(&issue.id) {
            None => {
                first_lines.insert(issue.id.clone(), (number, line));
                lines.push(issue);
            }
            Some((_, first)) if *first == line => {
                repairs.add(number, "line", "left out a repetition of an earlier line")
            }
            Some((first, _)) => return Err(duplicate_error(&issue, *first)),
        }
    }
    if lines.is_empty() {
        return Err(Error::field("file", "the ledger contains no issues: pass a ledger with at least one issue"));
    }
    Ok(lines)
}

/// Returns a line without a byte order mark, and without the blanks and the carriage return around its JSON object.
fn strip_line<'a>(number: usize, line: &'a str, repairs: &mut Repairs) -> &'a str {
    let without_mark = line.strip_prefix('\u{feff}');
    if without_mark.is_some() {
        repairs.add(number, "line", "removed the byte order mark");
    }
    if line.ends_with('\r') {
        repairs.add(number, "line", "read CRLF as the end of the line");
    }
    without_mark.unwrap_or(line).trim()
}

fn duplicate_error(issue: &IssueLine, first: usize) -> Error {
    let problem = format!(
        "the issue id {} must be unique, but line {first} has the same id and other content: remove one of the lines",
        issue.id
    );
    Error::field(format!("line {}", issue.number), problem)
}

fn parse_line(number: usize, text: &str, repairs: &mut Repairs) -> Result<IssueLine> {
    let map: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        let problem = format!("the line must be a JSON object: correct or remove the line ({error})");
        Error::field(format!("line {number}"), problem)
    })?;
    let mut fields = Fields::of_line(number, map, repairs);
    let id = fields.text("id")?;
    field::name(&fields.name("id"), &id)?;
    let mut issue = IssueLine { number, id, ..read_content(&mut fields)? };
    issue.links = fields.dependencies(parse_link)?.into_iter().flatten().collect();
    issue.other_fields = fields.finish();
    Ok(issue)
}

/// Returns the fields of a line except the id and the links.
fn read_content(fields: &mut Fields) -> Result<IssueLine> {
    let mut kind = fields.text("issue_type")?;
    if kind.is_empty() {
        kind = fields.text("type")?;
    }
    let title = fields.text("title")?;
    Ok(IssueLine {
        title: field::required_text(&fields.name("title"), &title)?,
        status: fields.optional_text("status")?.filter(|text| !text.is_empty()).unwrap_or_else(|| "open".to_owned()),
        kind,
        priority: fields.optional_integer("priority")?,
        description: fields.text("description")?,
        acceptance_criteria: fields.text("acceptance_criteria")?,
        parent: fields.optional_id("parent")?,
        assignee: fields.optional_text("assignee")?,
        labels: fields.texts("labels")?,
        close_reason: fields.optional_text("close_reason")?,
        created_at: fields.optional_text("created_at")?,
        updated_at: fields.optional_text("updated_at")?,
        defer_until: fields.optional_text("defer_until")?.filter(|text| !text.is_empty()),
        is_pinned: fields.flag("pinned")?,
        is_ephemeral: fields.flag("ephemeral")?,
        is_template: fields.flag("is_template")?,
        ..IssueLine::default()
    })
}

/// Returns a link, or None if the entry names no issue. Fails if a field is invalid.
fn parse_link(fields: &mut Fields) -> Result<Option<Link>> {
    let kind = fields.text("type")?;
    let Some(target) = fields.optional_id("depends_on_id")? else {
        fields.repair("depends_on_id", "left out a dependency without an id");
        return Ok(None);
    };
    field::name(&fields.name("depends_on_id"), &target)?;
    let kind = match kind.as_str() {
        // The default type of a dependency in beads.
        "" => {
            fields.repair("type", "read a missing type as blocks");
            "blocks".to_owned()
        }
        known if LINK_KINDS.contains(&known) => kind,
        _ => {
            fields.repair("type", "kept a dependency of an unknown type as a label");
            kind
        }
    };
    Ok(Some(Link { kind, target }))
}

#[cfg(test)]
mod tests;
