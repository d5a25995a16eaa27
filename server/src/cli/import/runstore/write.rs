//! Writes the rows of a RunStore database in one transaction. Ids and times stay as they were.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use indicatif::ProgressBar;
use prost_types::Timestamp as ProtoTimestamp;
use runhub_api::Json as ProtoJson;

use super::super::record_import;
use super::reader::{EventRow, RunRow, RunStoreFile, TaskRow};
use super::statuses::Statuses;
use crate::domain::agent::AgentState;
use crate::domain::approval::{Approval, ApprovalVerdict};
use crate::domain::artifact::Artifact;
use crate::domain::attempt::{AttemptStatus, TaskAttempt};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::event::EventDraft;
use crate::domain::json::Json;
use crate::domain::run::{Run, RunDraft};
use crate::domain::task::{Task, TaskSpec};
use crate::domain::time::Timestamp;
use crate::domain::{Key, Labels, limits};
use crate::error::{Error, Result};
use crate::rpc::field;
use crate::store::{Tx, agents, approvals, artifacts, attempts, checkpoints, events, path_sets, runs, tasks};

/// The rows to write.
pub struct Import {
    pub file: RunStoreFile,
    pub statuses: Statuses,
    pub digest: String,
    pub bar: ProgressBar,
}

/// The rows written so far.
#[derive(Default)]
struct Written {
    runs: HashMap<String, Rc<Run>>,
    tasks: HashMap<String, Key>,
    /// The time and position of each event, by run.
    events: HashMap<String, Vec<(Timestamp, i64)>>,
    /// Number of rows whose run or task does not exist, by table.
    left_out: BTreeMap<&'static str, usize>,
}

impl Written {
    /// Returns the run of a row. If it does not exist, counts the row as left out and returns None.
    fn find_run(&mut self, table: &'static str, id: &str) -> Option<Rc<Run>> {
        let run = self.runs.get(id).cloned();
        if run.is_none() {
            self.leave_out(table);
        }
        run
    }

    fn leave_out(&mut self, table: &'static str) {
        *self.left_out.entry(table).or_default() += 1;
    }
}

impl Import {
    /// Writes all rows. Returns the number of rows that were left out, by table. Fails without a change if a row is invalid.
    pub fn write(&self, tx: &mut dyn Tx) -> Result<BTreeMap<&'static str, usize>> {
        record_import(tx, &self.digest, "runstore", self.file.runs.len())?;
        self.bar.set_position(0);
        let mut written = Written::default();
        self.write_runs(tx, &mut written)?;
        self.write_agents(tx, &mut written)?;
        self.write_tasks(tx, &mut written)?;
        self.write_attempts(tx, &mut written)?;
        self.write_events(tx, &mut written)?;
        self.write_artifacts(tx, &mut written)?;
        self.write_checkpoints(tx, &mut written)?;
        self.write_approvals(tx, &mut written)?;
        Ok(written.left_out)
    }

    /// Returns the rows of a table and moves the progress bar with each row.
    fn rows<'a, R>(&'a self, table: &'static str, rows: &'a [R]) -> impl Iterator<Item = &'a R> {
        self.bar.set_message(table);
        rows.iter().inspect(|_| self.bar.inc(1))
    }

    fn write_runs(&self, tx: &mut dyn Tx, written: &mut Written) -> Result<()> {
        for row in self.rows("runs", &self.file.runs) {
            if runs::find(tx, &row.id)?.is_some() {
                let problem = format!("run {} is in the database already, so nothing was changed", row.id);
                return Err(Error::field("file", problem));
            }
            let run = self.run(tx, row)?;
            runs::insert(tx, &run)?;
            written.runs.insert(run.id.clone(), Rc::new(run));
        }
        Ok(())
    }

    fn run(&self, tx: &mut dyn Tx, row: &RunRow) -> Result<Run> {
        let name = |column: &str| format!("run {}: {column}", row.id);
        let draft = RunDraft {
            goal: text(&name("goal"), &row.goal)?,
            repo_path: text(&name("repo_path"), &row.repo_path)?,
            labels: Labels::new(),
        };
        let created = time(&name("created_at"), &row.created_at)?;
        let run = Run::new(tx.next_key()?, field::id(&name("id"), &row.id)?, draft, created);
        Ok(Run {
            status: self.statuses.parse(&name("status"), &row.status)?,
            summary: optional(&name("summary"), row.summary.as_deref())?,
            cycle_count: field::count(&name("cycle_count"), row.cycle_count)?,
            replan_count: field::count(&name("replan_count"), row.replan_count)?,
            current_task_id: optional(&name("current_task_id"), row.current_task_id.as_deref())?,
            update_time: time(&name("updated_at"), &row.updated_at)?,
            ..run
        })
    }

    fn write_agents(&self, tx: &mut dyn Tx, written: &mut Written) -> Result<()> {
        for row in self.rows("agents", &self.file.agents) {
            let name = |column: &str| format!("agent {} of run {}: {column}", row.role, row.run_id);
            let Some(run) = written.find_run("agents", &row.run_id) else { continue };
            let state = AgentState {
                run_id: row.run_id.clone(),
                role: field::plain_name(&name("role"), &row.role)?,
                session_id: optional(&name("session_id"), row.session_id.as_deref())?,
                turns: field::count(&name("turns"), row.turns)?,
                rotation_count: field::count(&name("rotation_count"), row.rotation_count)?,
                last_prompt_path: optional(&name("last_prompt_path"), row.last_prompt_path.as_deref())?,
                last_response_path: optional(&name("last_response_path"), row.last_response_path.as_deref())?,
                revision: 1,
                update_time: time(&name("updated_at"), &row.updated_at)?,
            };
            agents::save(tx, run.key, &state)?;
        }
        Ok(())
    }

    fn write_tasks(&self, tx: &mut dyn Tx, written: &mut Written) -> Result<()> {
        for row in self.rows("tasks", &self.file.tasks) {
            let Some(run) = written.find_run("tasks", &row.run_id) else { continue };
            let task = self.task(tx, &run, row)?;
            tasks::insert(tx, &task)?;
            written.tasks.insert(task.id.clone(), task.key);
        }
        Ok(())
    }

    fn task(&self, tx: &mut dyn Tx, run: &Run, row: &TaskRow) -> Result<Task> {
        let name = |column: &str| format!("task {}: {column}", row.id);
        let spec = TaskSpec {
            title: text(&name("title"), &row.title)?,
            objective: text(&name("objective"), &row.objective)?,
            acceptance_criteria: list(&name("acceptance_criteria_json"), &row.acceptance_criteria_json)?,
            verification_steps: list(&name("verification_steps_json"), &row.verification_steps_json)?,
            allowed_paths: list(&name("allowed_paths_json"), &row.allowed_paths_json)?,
            ..TaskSpec::default()
        };
        let ordinal = runs::take_ordinals(tx, run.key, 1)?;
        let id = field::id(&name("id"), &row.id)?;
        let path_set_key = path_sets::of_task(tx, run, &spec.allowed_paths)?;
        let task = Task::new(tx.next_key()?, id, run, ordinal, spec, time(&name("created_at"), &row.created_at)?);
        Ok(Task {
            path_set_key,
            status: self.statuses.parse(&name("status"), &row.status)?,
            attempt_count: field::count(&name("attempt_count"), row.attempt_count)?,
            implementation_summary: optional(&name("implementation_summary"), row.implementation_summary.as_deref())?,
            blocker_signature: optional(&name("blocker_signature"), row.blocker_signature.as_deref())?,
            update_time: time(&name("updated_at"), &row.updated_at)?,
            ..task
        })
    }

    fn write_attempts(&self, tx: &mut dyn Tx, written: &mut Written) -> Result<()> {
        for row in self.rows("attempts", &self.file.attempts) {
            let name = |column: &str| format!("attempt {}: {column}", row.id);
            let (Some(run), Some(task_key)) = (written.runs.get(&row.run_id), written.tasks.get(&row.task_id)) else {
                written.leave_out("attempts");
                continue;
            };
            let status: AttemptStatus = self.statuses.parse(&name("status"), &row.status)?;
            let create_time = time(&name("created_at"), &row.created_at)?;
            let attempt = TaskAttempt {
                key: tx.next_key()?,
                id: field::id(&name("id"), &row.id)?,
                run_id: row.run_id.clone(),
                task_id: row.task_id.clone(),
                attempt_number: field::count(&name("attempt_number"), row.attempt_number)?,
                agent_id: None,
                status,
                summary: text(&name("summary"), &row.summary)?,
                blocker_signature: optional(&name("blocker_signature"), row.blocker_signature.as_deref())?,
                result: json(&name("result_json"), &row.result_json)?,
                progress: Json::null(),
                create_time,
                end_time: (status != AttemptStatus::Running).then_some(create_time),
            };
            attempts::insert(tx, run.key, *task_key, &attempt, None)?;
        }
        Ok(())
    }

    fn write_events(&self, tx: &mut dyn Tx, written: &mut Written) -> Result<()> {
        for (at, row) in self.rows("events", &self.file.events).enumerate() {
            let Some(run) = written.find_run("events", &row.run_id) else { continue };
            let (draft, happened) = event(at + 1, row)?;
            let appended = events::append_at(tx, run.key, [(&draft, happened)].into_iter())?;
            written.events.entry(row.run_id.clone()).or_default().push((happened, appended.last_position));
        }
        Ok(())
    }

    fn write_artifacts(&self, tx: &mut dyn Tx, written: &mut Written) -> Result<()> {
        for row in self.rows("artifacts", &self.file.artifacts) {
            let name = |column: &str| format!("artifact {}: {column}", row.id);
            let Some(run) = written.find_run("artifacts", &row.run_id) else { continue };
            let artifact = Artifact {
                key: tx.next_key()?,
                id: field::id(&name("id"), &row.id)?,
                run_id: row.run_id.clone(),
                task_id: None,
                role: field::optional_name(&name("role"), row.role.as_deref())?,
                kind: field::plain_name(&name("kind"), &row.kind)?,
                path: text(&name("path"), &row.path)?,
                metadata: json(&name("metadata_json"), &row.metadata_json)?,
                create_time: time(&name("created_at"), &row.created_at)?,
            };
            artifacts::insert(tx, run.key, None, &artifact)?;
        }
        Ok(())
    }

    fn write_checkpoints(&self, tx: &mut dyn Tx, written: &mut Written) -> Result<()> {
        for row in self.rows("checkpoints", &self.file.checkpoints) {
            let name = |column: &str| format!("checkpoint {}: {column}", row.id);
            let Some(run) = written.find_run("checkpoints", &row.run_id) else { continue };
            let taken = time(&name("created_at"), &row.created_at)?;
            let before = written.events.get(&row.run_id).into_iter().flatten().filter(|(time, _)| *time <= taken);
            let checkpoint = Checkpoint {
                key: tx.next_key()?,
                id: field::id(&name("id"), &row.id)?,
                run_id: row.run_id.clone(),
                status: self.statuses.parse(&name("status"), &row.status)?,
                payload: json(&name("payload_json"), &row.payload_json)?,
                position: before.map(|(_, position)| *position).max().unwrap_or(0),
                create_time: taken,
            };
            checkpoints::insert(tx, run.key, &checkpoint)?;
        }
        Ok(())
    }

    fn write_approvals(&self, tx: &mut dyn Tx, written: &mut Written) -> Result<()> {
        for row in self.rows("approvals", &self.file.approvals) {
            let name = |column: &str| format!("approval {}: {column}", row.id);
            let Some(run) = written.find_run("approvals", &row.run_id) else { continue };
            let verdict: ApprovalVerdict = self.statuses.parse(&name("verdict"), &row.verdict)?;
            let create_time = time(&name("created_at"), &row.created_at)?;
            let id = field::id(&name("id"), &row.id)?;
            let approval = Approval {
                source: field::plain_name(&name("source"), &row.source)?,
                verdict,
                rationale: text(&name("rationale"), &row.rationale)?,
                payload: json(&name("payload_json"), &row.payload_json)?,
                decide_time: (verdict != ApprovalVerdict::Pending).then_some(create_time),
                ..Approval::new(tx.next_key()?, id, (run.key, &run.id), None, create_time)
            };
            approvals::insert(tx, &approval)?;
        }
        Ok(())
    }
}

fn event(at: usize, row: &EventRow) -> Result<(EventDraft, Timestamp)> {
    let name = |column: &str| format!("event {at}: {column}");
    let draft = EventDraft {
        task_key: None,
        // RunStore's own events have the source `system` too.
        source: field::plain_name(&name("source"), &row.source)?,
        kind: field::plain_name(&name("kind"), &row.kind)?,
        message: text(&name("message"), &row.message)?,
        payload: json(&name("payload_json"), &row.payload_json)?,
    };
    Ok((draft, time(&name("ts"), &row.ts)?))
}

fn time(column: &str, text: &str) -> Result<Timestamp> {
    let time = text
        .parse::<ProtoTimestamp>()
        .map_err(|_| Error::field(column, format!("{text:?} is not an RFC 3339 time")))?;
    field::time(column, Some(&time))?.ok_or_else(|| Error::internal("field::time returned no time for a time"))
}

/// Returns a text that fits into a message of the API. RunStore had no limits, and blank texts are allowed.
fn text(column: &str, text: &str) -> Result<String> {
    if text.len() > limits::VALUE_BYTES {
        return Err(Error::field(column, format!("has {} bytes; the limit is {}", text.len(), limits::VALUE_BYTES)));
    }
    if text.contains('\0') {
        return Err(Error::field(column, "contains a NUL character"));
    }
    Ok(text.to_owned())
}

fn optional(column: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| text(column, value)).transpose()
}

/// Returns a JSON value within the API's limits.
fn json(column: &str, text: &str) -> Result<Json> {
    let value = ProtoJson::parse(text).map_err(|error| Error::field(column, format!("is not valid JSON: {error}")))?;
    field::json(column, Some(&value))
}

fn list(column: &str, json: &str) -> Result<Vec<String>> {
    let entries: Vec<String> = serde_json::from_str(json)
        .map_err(|error| Error::field(column, format!("is not a JSON list of strings: {error}")))?;
    entries.iter().map(|entry| text(column, entry)).collect()
}
