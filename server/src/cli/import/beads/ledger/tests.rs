use super::super::rules::UnknownStatus;
use super::*;

fn parse_with(lines: &[&str], rules: &Rules) -> Result<Ledger> {
    Ledger::parse(lines.join("\n").as_bytes(), rules)
}

fn parse_lines(lines: &[&str]) -> Result<Ledger> {
    parse_with(lines, &Rules::default())
}

fn refusal(lines: &[&str]) -> String {
    parse_lines(lines).err().unwrap_or_else(|| panic!("accepted {lines:?}")).to_string()
}

/// Returns the ids of the issues on which the issue `index` depends.
fn dependencies(ledger: &Ledger, index: usize) -> Vec<&str> {
    ledger.issues[index].waits.dependencies.iter().map(|at| ledger.issues[*at].id.as_str()).collect()
}

const A: &str = r#"{"id":"a","title":"A","status":"closed","priority":0,"issue_type":"bug","description":" ","acceptance_criteria":"one\n\ntwo","parent":"p","assignee":"me","labels":["x:y"],"notes":"n","created_at":"2026-01-02T03:04:05Z","dependency_count":1,"dependencies":[{"depends_on_id":"b","type":"blocks"},{"depends_on_id":"gone","type":"blocks"},{"depends_on_id":"b","type":"tracks"},{"depends_on_id":"p","type":"parent-child"},{"depends_on_id":"q","type":"parent-child"}]}"#;
const B: &str = r#"{"id":"b","title":"B","status":"hooked","description":"d"}"#;

#[test]
fn issue_becomes_a_task() {
    let ledger = parse_lines(&[A, "", B]).unwrap();
    let a = &ledger.issues[0];
    assert_eq!((a.status, a.spec.priority, a.spec.objective.as_str()), (TaskStatus::Completed, 4, "A"));
    assert_eq!(a.spec.acceptance_criteria, ["one", "two"]);
    assert_eq!(a.create_time, Timestamp::from_seconds_and_nanos(1_767_323_045, 0));
    let b = &ledger.issues[1];
    assert_eq!((b.status, b.spec.priority, b.spec.objective.as_str()), (TaskStatus::Blocked, 2, "d"));
    assert_eq!((a.blocker_signature.as_deref(), b.blocker_signature.as_deref()), (None, Some("beads_hooked")));
    assert_eq!(ledger.left_out_fields, BTreeMap::from([("notes".to_owned(), 1)]));
    assert_eq!(ledger.repairs.count(), 0);
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
    assert_eq!(dependencies(&ledger, 0), ["b"]);
    assert_eq!(ledger.missing_dependencies().collect::<Vec<_>>(), [("a", "gone")]);
}

#[test]
fn both_forms_of_a_parent_pass_on_blockers_and_deferrals() {
    let ledger = parse_lines(&[
        r#"{"id":"x","title":"X","status":"in_progress"}"#,
        r#"{"id":"p","title":"P","issue_type":"epic","defer_until":"2030-01-02T00:00:00Z","dependencies":[{"depends_on_id":"x","type":"blocks"}]}"#,
        r#"{"id":"q","title":"Q","dependencies":[{"depends_on_id":"x","type":"conditional-blocks"}]}"#,
        r#"{"id":"p.1","title":"C","parent":"p"}"#,
        r#"{"id":"q.1","title":"C","dependencies":[{"depends_on_id":"q","type":"parent-child"}]}"#,
        r#"{"id":"q.2","title":"C","status":"closed","parent":"p"}"#,
    ])
    .unwrap();
    for index in 1..5 {
        assert_eq!(dependencies(&ledger, index), ["x"], "{}", ledger.issues[index].id);
    }
    assert_eq!(dependencies(&ledger, 5), [""; 0]);
    let times: Vec<bool> = ledger.issues.iter().map(|issue| issue.spec.not_before_time.is_some()).collect();
    assert_eq!(times, [false, true, false, true, false, false]);
    assert_eq!(ledger.issues[2].spec.labels["beads.conditional-blocks.x"], "");
}

#[test]
fn deleted_issues_are_left_out_and_dependencies_on_them_are_satisfied() {
    let deleted =
        r#"{"id":"t","title":"T","status":"tombstone","dependencies":[{"depends_on_id":"b","type":"blocks"}]}"#;
    let ledger = parse_lines(&[
        deleted,
        r#"{"id":"a","title":"A","parent":"t","dependencies":[{"depends_on_id":"t","type":"blocks"}]}"#,
        B,
    ])
    .unwrap();
    assert_eq!((ledger.issues.len(), ledger.deleted_count, ledger.satisfied_count), (2, 1, 1));
    assert_eq!((ledger.issues[0].status, dependencies(&ledger, 0)), (TaskStatus::Pending, vec![]));
    assert_eq!(ledger.missing_dependencies().count(), 0);
    assert!(refusal(&[deleted]).contains("every issue of the ledger is deleted"));
}

#[test]
fn unknown_statuses_are_named_and_refused_without_an_option() {
    let review = r#"{"id":"r","title":"R","status":"review"}"#;
    let waiting =
        r#"{"id":"w","title":"W","status":"qa\u001b","dependencies":[{"depends_on_id":"r","type":"blocks"}]}"#;
    let refused = refusal(&[B, review, waiting]);
    assert!(refused.starts_with("line 2: status: issue r has an unknown status"), "{refused}");
    assert!(refused.contains(r#""qa\u{1b}" (1), "review" (1): pass --unknown-status"#), "{refused}");
    let rules = Rules { unknown_status: Some(UnknownStatus::Skip), ..Rules::default() };
    let ledger = parse_with(&[B, review, waiting], &rules).unwrap();
    assert_eq!((ledger.issues.len(), ledger.skipped_count), (1, 2));
    // The blocker is not imported, but may be open. The dependency stays visible as a missing one.
    let waiting = waiting.replace("qa\\u001b", "open");
    let ledger = parse_with(&[review, &waiting], &rules).unwrap();
    assert_eq!(ledger.missing_dependencies().collect::<Vec<_>>(), [("w", "r")]);
}

#[test]
fn labels_beyond_the_limit_of_a_task_are_left_out_and_reported() {
    let labels: Vec<String> = (0..70).map(|at| format!("{at:02}")).collect();
    let line = serde_json::json!({ "id": "a", "title": "A", "status": "open", "labels": labels }).to_string();
    let ledger = parse_lines(&[&line]).unwrap();
    let kept = &ledger.issues[0].spec.labels;
    assert_eq!((kept.len(), kept["beads.id"].as_str(), kept["beads.status"].as_str()), (64, "a", "open"));
    assert_eq!(ledger.repairs.describe().count(), 1);
}

#[test]
fn error_names_the_invalid_line() {
    for (lines, field) in [
        (vec![B, "{"], "line 2"),
        (vec![B, r#"{"id":"b","title":"C"}"#], "line 2"),
        (vec![r#"{"id":" ","title":"t"}"#], "line 1: id"),
        (vec![r#"{"id":"a","title":""}"#], "line 1: title"),
        (vec![r#"{"id":"a","title":"t","priority":5}"#], "line 1: priority"),
        (vec![r#"{"id":"a","title":"t","created_at":"soon"}"#], "line 1: created_at"),
        (vec![r#"{"id":"a","title":"t","defer_until":"soon"}"#], "line 1: defer_until"),
        (vec![r#"{"id":"a","title":"t","parent":"a"}"#], "line 1: parent"),
    ] {
        let refused = parse_lines(&lines).err();
        assert!(
            matches!(&refused, Some(Error::InvalidField { field: named, .. }) if named == field),
            "the error must name {field}: {refused:?}"
        );
    }
}
