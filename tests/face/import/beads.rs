//! Importing a beads ledger: agents get the issues that `bd ready` would show, and every other issue keeps its meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use runhub_client::Client;
use runhub_client::v1::*;

use super::import;
use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::dump::dump;

/// A ledger file and a database in a folder that is deleted after the test.
struct Files {
    _folder: tempfile::TempDir,
    ledger: PathBuf,
    db: PathBuf,
}

impl Files {
    fn new(ledger: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, db) = (folder.path().join("issues.jsonl"), folder.path().join("runhub.db"));
        std::fs::write(&file, ledger).unwrap();
        Self { _folder: folder, ledger: file, db }
    }

    /// Imports the ledger and returns the summary.
    fn import(&self, more: &[&str]) -> String {
        let output = import("beads", &self.ledger, &self.db, more);
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Imports the ledger, which must be refused and change nothing, and returns the error.
    fn refused(&self, more: &[&str]) -> String {
        let before = self.db.exists().then(|| dump(&self.db));
        let output = import("beads", &self.ledger, &self.db, more);
        assert_eq!(output.status.code(), Some(1), "{more:?} was accepted");
        if self.db.exists() {
            let is_empty = |row: &String| row.starts_with("counters");
            assert!(before.is_some_and(|rows| rows == dump(&self.db)) || dump(&self.db).iter().all(is_empty));
        }
        String::from_utf8(output.stderr).unwrap()
    }

    async fn serve(&self) -> (Binary, Client) {
        let server = Binary::start(&self.db, &[]);
        let client = server.connect().await;
        (server, client)
    }
}

async fn only_run(client: &Client) -> Run {
    let mut runs = client.list_runs(unset()).await.unwrap().runs;
    assert_eq!(runs.len(), 1);
    runs.remove(0)
}

/// Returns the tasks of the only run, by the id of the issue.
async fn tasks_by_issue(client: &Client) -> BTreeMap<String, Task> {
    let request = ListTasksRequest { run_id: only_run(client).await.id, ..unset() };
    let tasks = client.list_tasks(request).await.unwrap().tasks;
    tasks.into_iter().map(|task| (task.labels["beads.id"].clone(), task)).collect()
}

/// Claims until no task of the only run is claimable, and returns the ids of the issues.
async fn claim_all(client: &Client) -> BTreeSet<String> {
    let run = only_run(client).await;
    let mut claimed = BTreeSet::new();
    while let Some(claim) = claim(client, &run.id).await {
        claimed.insert(claim.task.unwrap().labels["beads.id"].clone());
    }
    claimed
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn signatures(tasks: &BTreeMap<String, Task>) -> BTreeMap<&str, &str> {
    let blocked = tasks.iter().filter(|(_, task)| task.status() == TaskStatus::Blocked);
    blocked.map(|(id, task)| (id.as_str(), task.blocker_signature.as_deref().unwrap())).collect()
}

const LEDGER: &str = r#"{"id":"x-1","title":"First","status":"closed","priority":1,"close_reason":"done","created_at":"2026-01-02T03:04:05Z"}
{"id":"x-2","title":"Second","status":"open","priority":0,"description":"Do it","dependencies":[{"depends_on_id":"x-1","type":"blocks"},{"depends_on_id":"x-9","type":"blocks"}]}
{"id":"x-3","title":"Third","status":"open","dependencies":[{"depends_on_id":"x-2","type":"blocks"}],"notes":"n"}
"#;

#[tokio::test]
async fn ledger_becomes_a_run() {
    let files = Files::new(LEDGER);
    let summary = files.import(&["--goal", "All of it"]);
    for expected in [
        "3 tasks: 1 completed, 2 pending, 0 blocked",
        "pending: 1 ready now, 1 wait for dependencies, 0 wait for a time",
        "2 dependencies",
        "x-2 is blocked by x-9",
        "notes (1)",
    ] {
        assert!(summary.contains(expected), "{expected} in {summary}");
    }
    assert!(!summary.contains("repairs") && !summary.contains("tombstones"), "{summary}");

    let (_server, client) = files.serve().await;
    let run = only_run(&client).await;
    assert_eq!((run.goal.as_str(), run.status()), ("All of it", RunStatus::Planning));
    let tasks = client.list_tasks(ListTasksRequest { run_id: run.id.clone(), ..unset() }).await.unwrap().tasks;
    assert_eq!(tasks.iter().map(|task| task.priority).collect::<Vec<_>>(), [3, 4, 2]);
    assert_eq!(tasks[0].create_time.unwrap().to_string(), "2026-01-02T03:04:05Z");
    assert_eq!((tasks[1].objective.as_str(), tasks[2].objective.as_str()), ("Do it", "Third"));
    assert_eq!(tasks[1].labels["beads.missing.x-9"], "blocks");
    assert_eq!(kinds(&client, &run.id).await, ["run_created", "tasks_added"]);
    assert_eq!(claim_all(&client).await, set(&["x-2"]));
}

/// One issue of each status and of each kind that is not work. Every issue but `task`, `child` and `after` must not be
/// claimable.
fn ledger_of_every_status() -> String {
    let mut lines = vec![
        r#"{"id":"task","title":"t","status":"open","issue_type":"task"}"#.to_owned(),
        r#"{"id":"closed","title":"t","status":"closed","issue_type":"task"}"#.to_owned(),
        r#"{"id":"deleted","title":"t","status":"tombstone","issue_type":"task"}"#.to_owned(),
        r#"{"id":"after","title":"t","dependencies":[{"depends_on_id":"closed","type":"blocks"},{"depends_on_id":"deleted","type":"blocks"}]}"#.to_owned(),
        r#"{"id":"waiting","title":"t","status":"open","dependencies":[{"depends_on_id":"in_progress","type":"blocks"}]}"#.to_owned(),
        r#"{"id":"parent","title":"t","issue_type":"epic","dependencies":[{"depends_on_id":"task","type":"blocks"}]}"#.to_owned(),
        r#"{"id":"between","title":"t","status":"closed","parent":"parent"}"#.to_owned(),
        r#"{"id":"grandchild","title":"t","dependencies":[{"depends_on_id":"between","type":"parent-child"}]}"#.to_owned(),
        r#"{"id":"child","title":"t","dependencies":[{"depends_on_id":"epic","type":"parent-child"}]}"#.to_owned(),
        r#"{"id":"pinned-flag","title":"t","pinned":true}"#.to_owned(),
        r#"{"id":"wisp-flag","title":"t","issue_type":"task","ephemeral":true}"#.to_owned(),
        r#"{"id":"gate-by-type","title":"t","type":"gate"}"#.to_owned(),
    ];
    for status in ["blocked", "in_progress", "hooked", "pinned", "deferred"] {
        lines.push(format!(r#"{{"id":"{status}","title":"t","status":"{status}","issue_type":"bug"}}"#));
    }
    for kind in ["epic", "event", "message", "agent", "role", "rig", "molecule", "convoy", "wisp", "merge-request"] {
        lines.push(format!(r#"{{"id":"{kind}","title":"t","status":"open","issue_type":"{kind}"}}"#));
    }
    lines.join("\n")
}

#[tokio::test]
async fn agents_get_only_open_work_whose_blockers_are_closed() {
    let files = Files::new(&ledger_of_every_status());
    let summary = files.import(&[]);
    for expected in [
        "26 tasks: 2 completed, 5 pending, 19 blocked",
        "pending: 3 ready now, 2 wait for dependencies, 0 wait for a time",
        "blocked: 1 beads_blocked, 1 beads_deferred, 1 beads_hooked, 1 beads_in_progress, 13 beads_not_work, 2 beads_pinned",
        "1 deleted issues (tombstones) left out",
        "4 dependencies, 1 of them from parents",
        "1 dependencies on deleted issues left out, because they are satisfied",
    ] {
        assert!(summary.contains(expected), "{expected} in {summary}");
    }
    let (_server, client) = files.serve().await;
    let tasks = tasks_by_issue(&client).await;
    assert!(!tasks.contains_key("deleted"));
    assert_eq!(tasks["grandchild"].depends_on, [tasks["task"].id.clone()]);
    let signatures = signatures(&tasks);
    for status in ["blocked", "in_progress", "hooked", "pinned", "deferred"] {
        assert_eq!(signatures[status], format!("beads_{status}"));
    }
    for id in ["epic", "event", "gate-by-type", "wisp-flag", "merge-request", "parent"] {
        assert_eq!(signatures[id], "beads_not_work", "{id}");
    }
    assert_eq!(claim_all(&client).await, set(&["task", "after", "child"]));
}

#[tokio::test]
async fn child_becomes_claimable_once_the_blocker_of_its_grandparent_is_completed() {
    let files = Files::new(&ledger_of_every_status());
    files.import(&[]);
    let (_server, client) = files.serve().await;
    assert!(!claim_all(&client).await.contains("grandchild"));
    let blocker = &tasks_by_issue(&client).await["task"];
    let requeue = RequeueInProgressTasksRequest { run_id: blocker.run_id.clone(), ..unset() };
    client.requeue_in_progress_tasks(requeue).await.unwrap();
    client.complete_task(CompleteTaskRequest { task_id: blocker.id.clone(), ..unset() }).await.unwrap();
    assert!(claim_all(&client).await.contains("grandchild"));
}

#[tokio::test]
async fn epic_is_completed_by_hand_and_releases_its_dependents() {
    let files = Files::new(
        r#"{"id":"e","title":"E","status":"open","issue_type":"epic"}
{"id":"a","title":"A","status":"open","dependencies":[{"depends_on_id":"e","type":"blocks"}]}"#,
    );
    files.import(&[]);
    let (_server, client) = files.serve().await;
    assert_eq!(claim_all(&client).await, set(&[]));
    let epic = tasks_by_issue(&client).await["e"].id.clone();
    client.complete_task(CompleteTaskRequest { task_id: epic, ..unset() }).await.unwrap();
    assert_eq!(claim_all(&client).await, set(&["a"]));
}

#[tokio::test]
async fn reclaim_makes_held_issues_claimable() {
    let files = Files::new(&ledger_of_every_status());
    let summary = files.import(&["--reclaim"]);
    assert!(summary.contains("7 pending, 17 blocked"), "{summary}");
    let (_server, client) = files.serve().await;
    assert_eq!(claim_all(&client).await, set(&["task", "after", "child", "in_progress", "hooked"]));
}

#[tokio::test]
async fn wisps_are_claimable_only_with_the_option() {
    let files = Files::new(&ledger_of_every_status());
    files.import(&["--include-ephemeral"]);
    let (_server, client) = files.serve().await;
    assert_eq!(tasks_by_issue(&client).await["wisp-flag"].labels["beads.ephemeral"], "true");
    assert_eq!(claim_all(&client).await, set(&["task", "after", "child", "wisp-flag"]));
}

#[tokio::test]
async fn deferred_issue_and_its_children_wait_for_the_time() {
    let files = Files::new(
        r#"{"id":"d","title":"D","status":"deferred","defer_until":"2999-01-01T00:00:00Z"}
{"id":"d.1","title":"C","status":"open","parent":"d"}
{"id":"o","title":"O","status":"open","defer_until":"2999-01-01T00:00:00+02:00"}
{"id":"past","title":"P","status":"deferred","defer_until":"2001-01-01T00:00:00Z"}"#,
    );
    let summary = files.import(&[]);
    assert!(summary.contains("1 ready now, 0 wait for dependencies, 3 wait for a time"), "{summary}");
    let (_server, client) = files.serve().await;
    let tasks = tasks_by_issue(&client).await;
    let times = ["d", "d.1", "o"].map(|id| tasks[id].not_before_time.unwrap().to_string());
    assert_eq!(times, ["2999-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "2998-12-31T22:00:00Z"]);
    assert_eq!(claim_all(&client).await, set(&["past"]));
}

#[test]
fn unknown_status_is_refused_unless_the_option_says_what_it_means() {
    let ledger = r#"{"id":"a","title":"A","status":"open"}
{"id":"r","title":"R","status":"review"}
{"id":"q","title":"Q","status":"qa"}"#;
    let files = Files::new(ledger);
    let refused = files.refused(&[]);
    assert!(refused.contains("line 2: status: issue r has an unknown status"), "{refused}");
    assert!(refused.contains(r#""qa" (1), "review" (1): pass --unknown-status"#), "{refused}");
    for (option, expected) in [
        ("pending", "3 tasks: 0 completed, 3 pending, 0 blocked"),
        ("blocked", "blocked: 1 beads_qa, 1 beads_review"),
        ("skip", "2 issues with an unknown status left out"),
    ] {
        let summary = Files::new(ledger).import(&["--unknown-status", option]);
        assert!(summary.contains(expected), "{expected} in {summary}");
    }
}

/// A ledger with a byte order mark, CRLF, null fields, an unknown type of dependency, and a dependency id with a line of
/// a log.
const DIRTY: &str = "\u{feff}{\"id\":\"a\",\"title\":\"A\",\"status\":\"open\",\"assignee\":null}\r\n\
    {\"id\":\"b\",\"title\":\"B\",\"status\":\"open\",\"description\":null,\"dependencies\":[\
    {\"depends_on_id\":\"a\\n2026-02-16T04:38:43.130820Z  INFO sync: exported=246\",\"type\":\"blocks\"},\
    {\"depends_on_id\":\"a\",\"type\":\"inspired-by\"}]}\n";

#[tokio::test]
async fn dirty_ledger_is_repaired_and_each_repair_is_reported() {
    let files = Files::new(DIRTY);
    let summary = files.import(&[]);
    for expected in [
        "6 repairs, which --strict refuses:",
        "assignee: read null as no value: line 1",
        "dependencies.depends_on_id: removed the lines after the id: line 2",
        "dependencies.type: kept a dependency of an unknown type as a label: line 2",
        "description: read null as no value: line 2",
        "line: read CRLF as the end of the line: line 1",
        "line: removed the byte order mark: line 1",
    ] {
        assert!(summary.contains(expected), "{expected} in {summary}");
    }
    let (_server, client) = files.serve().await;
    let tasks = tasks_by_issue(&client).await;
    assert_eq!(tasks["b"].depends_on, [tasks["a"].id.clone()]);
    assert_eq!(tasks["b"].labels["beads.inspired-by.a"], "");
    assert_eq!(claim_all(&client).await, set(&["a"]));
}

#[test]
fn strict_refuses_a_dirty_ledger_and_accepts_a_clean_one() {
    let refused = Files::new(DIRTY).refused(&["--strict"]);
    for expected in ["--strict refuses the ledger", "depends_on_id: removed the lines after the id: line 2"] {
        assert!(refused.contains(expected), "{expected} in {refused}");
    }
    Files::new(LEDGER).import(&["--strict"]);
}

#[test]
fn file_is_imported_once_and_a_changed_file_becomes_another_run() {
    let files = Files::new(LEDGER);
    files.import(&[]);
    for options in [&[][..], &["--reclaim"]] {
        let refused = files.refused(options);
        assert!(refused.contains("was imported before") && refused.contains("--db"), "{refused}");
    }
    std::fs::write(&files.ledger, LEDGER.replace("Third", "Last")).unwrap();
    files.import(&[]);
}

#[test]
fn cycle_in_a_ledger_is_refused() {
    let circle = LEDGER.replace(r#""depends_on_id":"x-9""#, r#""depends_on_id":"x-3""#);
    let refused = Files::new(&circle).refused(&[]);
    assert!(refused.contains("x-2 -> x-3 -> x-2"), "{refused}");
    let own_parent = r#"{"id":"e","title":"E","dependencies":[{"depends_on_id":"a","type":"blocks"}]}
{"id":"a","title":"A","parent":"e"}"#;
    let refused = Files::new(own_parent).refused(&[]);
    assert!(refused.contains("line 2: dependencies") && refused.contains("a blocks a parent of a"), "{refused}");
    let parents = r#"{"id":"e","title":"E","parent":"a"}
{"id":"a","title":"A","parent":"e"}"#;
    let refused = Files::new(parents).refused(&[]);
    assert!(refused.contains("line 1: parent: the parents form the cycle e -> a -> e"), "{refused}");
}
