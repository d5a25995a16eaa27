//! Which issues of a ledger `bd ready` shows, by a rule that shares no code with the import: a fixed point over the whole
//! ledger, as beads itself computes it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The kinds of issues that agents work on, in the recorded and in the generated ledger.
const WORK: [&str; 4] = ["task", "bug", "feature", "chore"];

/// Returns the ids of the ready issues of a ledger: open work that neither is a wisp, nor is blocked, nor has a blocked
/// parent.
pub fn ready_issues(ledger: &str) -> BTreeSet<String> {
    let issues: Vec<Value> = ledger.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses: BTreeMap<&str, &str> =
        issues.iter().map(|issue| (text(issue, "id"), text(issue, "status"))).collect();
    let is_open = |id: &str| statuses.get(id).is_some_and(|status| !["closed", "tombstone"].contains(status));
    let mut blocked: BTreeSet<&str> = BTreeSet::new();
    loop {
        let known = blocked.len();
        for issue in &issues {
            let mut blockers = targets(issue, "blocks").into_iter();
            let mut parents = targets(issue, "parent-child").into_iter().chain([text(issue, "parent")]);
            if blockers.any(is_open) || parents.any(|parent| blocked.contains(parent)) {
                blocked.insert(text(issue, "id"));
            }
        }
        if blocked.len() == known {
            break;
        }
    }
    let is_ready = |issue: &&Value| {
        text(issue, "status") == "open"
            && issue["ephemeral"] != true
            && WORK.contains(&text(issue, "issue_type"))
            && !blocked.contains(text(issue, "id"))
    };
    issues.iter().filter(is_ready).map(|issue| text(issue, "id").to_owned()).collect()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

fn targets<'a>(issue: &'a Value, kind: &str) -> Vec<&'a str> {
    let links = issue["dependencies"].as_array().into_iter().flatten();
    links.filter(|link| text(link, "type") == kind).map(|link| text(link, "depends_on_id")).collect()
}
