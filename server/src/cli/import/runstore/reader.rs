//! This module reads a database that the TypeScript class RunStore wrote. RunStore defines the schema, so the SQL for
//! this schema is here and not in `store/`.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row};

use crate::error::{Error, Result};

/// Contains all rows of a RunStore database without changes, in the order in which RunStore wrote the rows.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct RunStoreFile {
    pub runs: Vec<RunRow>,
    pub agents: Vec<AgentRow>,
    pub tasks: Vec<TaskRow>,
    pub attempts: Vec<AttemptRow>,
    pub events: Vec<EventRow>,
    pub artifacts: Vec<ArtifactRow>,
    pub checkpoints: Vec<CheckpointRow>,
    pub approvals: Vec<ApprovalRow>,
}

/// Declares a struct for the rows of a table. Each field of the struct has the name of a column.
macro_rules! table {
    ($row:ident, $table:literal, $order:literal, { $($field:ident: $type:ty,)+ }) => {
        #[derive(Debug, Clone)]
        #[allow(missing_docs)]
        pub struct $row {
            $(pub $field: $type,)+
        }

        impl $row {
            const SQL: &'static str = concat!("SELECT * FROM ", $table, " ORDER BY ", $order);

            fn from_row(row: &Row) -> rusqlite::Result<Self> {
                Ok(Self { $($field: row.get(stringify!($field))?,)+ })
            }
        }
    };
}

table!(RunRow, "runs", "created_at, rowid", {
    id: String,
    goal: String,
    repo_path: String,
    status: String,
    summary: Option<String>,
    cycle_count: i32,
    replan_count: i32,
    current_task_id: Option<String>,
    created_at: String,
    updated_at: String,
});

table!(AgentRow, "agents", "rowid", {
    run_id: String,
    role: String,
    session_id: Option<String>,
    turns: i32,
    rotation_count: i32,
    last_prompt_path: Option<String>,
    last_response_path: Option<String>,
    updated_at: String,
});

table!(TaskRow, "tasks", "created_at, rowid", {
    id: String,
    run_id: String,
    title: String,
    objective: String,
    acceptance_criteria_json: String,
    verification_steps_json: String,
    allowed_paths_json: String,
    status: String,
    attempt_count: i32,
    implementation_summary: Option<String>,
    blocker_signature: Option<String>,
    created_at: String,
    updated_at: String,
});

table!(AttemptRow, "task_attempts", "created_at, rowid", {
    id: String,
    run_id: String,
    task_id: String,
    attempt_number: i32,
    status: String,
    summary: String,
    blocker_signature: Option<String>,
    result_json: String,
    created_at: String,
});

table!(EventRow, "events", "id", {
    run_id: String,
    ts: String,
    source: String,
    kind: String,
    message: String,
    payload_json: String,
});

table!(ArtifactRow, "artifacts", "created_at, rowid", {
    id: String,
    run_id: String,
    role: Option<String>,
    kind: String,
    path: String,
    created_at: String,
    metadata_json: String,
});

table!(CheckpointRow, "checkpoints", "created_at, rowid", {
    id: String,
    run_id: String,
    status: String,
    payload_json: String,
    created_at: String,
});

table!(ApprovalRow, "approvals", "created_at, rowid", {
    id: String,
    run_id: String,
    source: String,
    verdict: String,
    rationale: String,
    payload_json: String,
    created_at: String,
});

impl RunStoreFile {
    /// Reads all rows of the RunStore database `path` in one transaction, without changing the file, and returns the
    /// rows. Fails if the file does not exist or is not a RunStore database.
    pub fn read(path: &Path) -> Result<Self> {
        read_tables(path).map_err(|cause| {
            let problem = format!("the file must be a readable RunStore database ({cause}): pass another file");
            Error::field("file", problem)
        })
    }

    /// Returns the total number of rows in all tables.
    pub fn row_count(&self) -> usize {
        self.runs.len()
            + self.agents.len()
            + self.tasks.len()
            + self.attempts.len()
            + self.events.len()
            + self.artifacts.len()
            + self.checkpoints.len()
            + self.approvals.len()
    }
}

fn read_tables(path: &Path) -> rusqlite::Result<RunStoreFile> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // One transaction covers all tables. Otherwise, if another program wrote to the file during the import, the rows of
    // different tables could contradict each other.
    let _transaction = conn.unchecked_transaction()?;
    Ok(RunStoreFile {
        runs: read_rows(&conn, RunRow::SQL, RunRow::from_row)?,
        agents: read_rows(&conn, AgentRow::SQL, AgentRow::from_row)?,
        tasks: read_rows(&conn, TaskRow::SQL, TaskRow::from_row)?,
        attempts: read_rows(&conn, AttemptRow::SQL, AttemptRow::from_row)?,
        events: read_rows(&conn, EventRow::SQL, EventRow::from_row)?,
        artifacts: read_rows(&conn, ArtifactRow::SQL, ArtifactRow::from_row)?,
        checkpoints: read_rows(&conn, CheckpointRow::SQL, CheckpointRow::from_row)?,
        approvals: read_rows(&conn, ApprovalRow::SQL, ApprovalRow::from_row)?,
    })
}

fn read_rows<T>(conn: &Connection, sql: &str, map: fn(&Row) -> rusqlite::Result<T>) -> rusqlite::Result<Vec<T>> {
    conn.prepare(sql)?.query_map([], map)?.collect()
}
