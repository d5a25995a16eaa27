//! Importing: what is imported, how it is stored, and what is refused.

mod beads;

use std::path::Path;

use runhub_client::v1::*;
use rusqlite::Connection;

use crate::support::binary::{self, Binary};
use crate::support::calls::*;
use crate::support::dump::dump;

/// The CREATE TABLE statements of the class RunStore.
const SEED_SCHEMA: &str = include_str!("import/runstore.sql");

/// Creates a database of RunStore with a few rows.
pub fn runstore(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(SEED_SCHEMA).unwrap();
    conn.execute_batch(include_str!("import/runstore_rows.sql")).unwrap();
    conn
}

pub fn import(kind: &str, file: &Path, db: &Path, more: &[&str]) -> std::process::Output {
    let args = ["import", kind, file.to_str().unwrap(), "--db", db.to_str().unwrap()];
    binary::run(&[&args, more].concat())
}

#[tokio::test]
async fn runstore_database_is_imported_completely() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.db");
    let db = folder.path().join("runhub.db");
    drop(runstore(&file));
    let output = import("runstore", &file, &db, &[]);
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for expected in
        ["2 runs", "1 agents", "3 tasks", "2 attempts", "4 events", "2 artifacts", "1 checkpoints", "2 approvals"]
    {
        assert!(summary.contains(expected), "{expected} in {summary}");
    }
    assert!(summary.contains("1 left out"), "the event of a missing run must be left out: {summary}");

    let server = Binary::start(&db, &[]);
    let client = server.connect().await;
    let runs = client.list_runs(unset()).await.unwrap().runs;
    assert_eq!(runs.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["run-2", "run-1"]);
    let run = &runs[1];
    assert_eq!((run.status(), run.summary.as_deref(), run.cycle_count), (RunStatus::Running, Some("half way"), 3));
    assert_eq!(run.create_time.unwrap().to_string(), "2025-03-01T10:00:00.123Z");
    assert_eq!(run.current_task_id.as_deref(), Some("task-b"));

    let request = GetRunSnapshotRequest { run_id: "run-1".into(), ..unset() };
    let snapshot = client.get_run_snapshot(request).await.unwrap().snapshot.unwrap();
    let task = &snapshot.completed_tasks[0];
    assert_eq!((task.id.as_str(), task.ordinal, task.attempt_count), ("task-a", 1, 1));
    assert_eq!(
        (&*task.acceptance_criteria, &*task.allowed_paths),
        (&["it works".to_owned()][..], &["src/**".to_owned()][..])
    );
    assert_eq!(snapshot.in_progress_tasks[0].id, "task-b");
    assert_eq!(snapshot.pending_tasks[0].id, "task-c");
    let attempt = &snapshot.recent_attempts[1];
    assert_eq!((attempt.id.as_str(), attempt.status()), ("attempt-2", AttemptStatus::Completed));
    assert_eq!(json(&attempt.result), serde_json::json!({ "ok": true }));
    let events: Vec<_> = snapshot.recent_events.iter().map(|event| (event.seq, event.kind.as_str())).collect();
    assert_eq!(events, [(1, "run_created"), (2, "note"), (3, "late_note")]);
    assert_eq!(snapshot.recent_events[1].create_time.unwrap().to_string(), "2025-03-01T10:00:02Z");
    assert_eq!(snapshot.agents[0].session_id.as_deref(), Some("s-1"));
    assert_eq!((snapshot.artifacts[0].role.as_deref(), snapshot.artifacts[1].role.as_deref()), (Some("checker"), None));
    assert_eq!(snapshot.approvals[1].verdict(), ApprovalVerdict::Approved);

    let latest = GetLatestCheckpointRequest { run_id: "run-1".into() };
    let checkpoint = client.get_latest_checkpoint(latest).await.unwrap().checkpoint.unwrap();
    assert_eq!(checkpoint.position, snapshot.recent_events[1].position, "the newest event at the checkpoint's time");
    // The imported run can be continued.
    let requeue = RequeueInProgressTasksRequest { run_id: "run-1".into(), ..unset() };
    assert_eq!(client.requeue_in_progress_tasks(requeue).await.unwrap().requeued_count, 1);
    assert_eq!(task_id(&claim(&client, "run-1").await.unwrap()), "task-b");
}

#[test]
fn runstore_database_is_not_imported_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.db");
    let db = folder.path().join("runhub.db");
    let old = runstore(&file);
    assert!(import("runstore", &file, &db, &[]).status.success());
    let before = dump(&db);
    assert!(String::from_utf8_lossy(&import("runstore", &file, &db, &[]).stderr).contains("was imported before"));
    // The database is refused even after it has gained a run.
    old.execute_batch(
        "INSERT INTO runs SELECT 'run-3', goal, repo_path, status, summary, cycle_count, replan_count,
        current_task_id, created_at, updated_at FROM runs WHERE id = 'run-1'",
    )
    .unwrap();
    let refused = import("runstore", &file, &db, &[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("run-1 already exists in the database"));
    assert_eq!(dump(&db), before);
}

#[test]
fn unknown_status_is_refused_with_the_flag_that_maps_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.db");
    let db = folder.path().join("runhub.db");
    let old = runstore(&file);
    old.execute_batch("UPDATE tasks SET status = 'parked' WHERE id = 'task-c'").unwrap();
    let refused = import("runstore", &file, &db, &[]);
    let problem = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(problem.contains("task-c") && problem.contains("--map-status 'task:parked=NEW'"), "{problem}");
    assert!(dump(&db).iter().all(|row| row.starts_with("counters")), "the database must stay empty");
    assert!(import("runstore", &file, &db, &["--map-status", "task:parked=blocked"]).status.success());
}

#[test]
fn missing_or_invalid_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no.db");
    let db = folder.path().join("runhub.db");
    assert_eq!(import("runstore", &file, &db, &[]).status.code(), Some(1));
    std::fs::write(&file, "not a database, but long enough to be read as one").unwrap();
    assert_eq!(import("runstore", &file, &db, &[]).status.code(), Some(1));
    assert_eq!(import("beads", &file, &db, &[]).status.code(), Some(1));
    assert_eq!(import("beads", &folder.path().join("none"), &db, &[]).status.code(), Some(1));
}

#[tokio::test]
async fn import_is_refused_while_a_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.db");
    let db = folder.path().join("runhub.db");
    drop(runstore(&file));
    let _server = Binary::start(&db, &[]);
    assert!(String::from_utf8_lossy(&import("runstore", &file, &db, &[]).stderr).contains("another runhub has"));
}
