//! This module writes the rows of a RunStore database to a Runhub database in one transaction. Ids and times do not
//! change.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use indicatif::ProgressBar;
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
use crate::domain::{Key, Labels, field, limits};
use crate::error::{Error, Result};
use crate::rpc::value::json_from_proto;
use crate::store::{Tx, agents, approvals, artifacts, attempts, checkpoints, events, path_sets, runs, tasks};

/// Contains the rows to write and the settings of the import.
pub struct Import {
    pub file: RunStoreFile,
    pub statuses: Statuses,
    pub digest: String,
    pub bar: ProgressBar,
}

/// Contains the runs, tasks and events that the import has written, and the numbers of skipped rows.
#[derive(Default)]
struct WrittenRows {
    runs: HashMap<String, Rc<Run>>,
    tasks: HashMap<String, Key>,
    /// The time and position of each written event, by the id of the event's run.
    events: HashMap<String, Vec<(Timestamp, i64)>>,
    /// Number of rows whose run or task does not exist, by table name.
    skipped: BTreeMap<&'static str, usize>,
}

impl WrittenRows {
    /// Returns the run to which a row belongs. If the run does not exist, counts the row as skipped and returns None.
    fn find_run(&mut self, table: &'static str, id: &str) -> Option<Rc<Run>> {
        let run = self.runs.get(id).cloned();
        if run.is_none() {
            self.count_skipped(table);
        }
        run
    }

    fn count_skipped(&mut self, table: &'static str) {
        *self.skipped.entry(table).or_default() += 1;
    }
}

impl Import {
    /// Writes the rows of all tables, and returns the number of skipped rows by table name. Fails if the rows were
    /// imported before, if a run already exists, or if a row is invalid.
    pub fn write(&self, tx: &mut dyn Tx) -> Result<BTreeMap<&'static str, usize>> {
        record_import(tx, &self.digest, "runstore", self.file.runs.len())?;
        self.bar.set_position(0);
        let mut written = WrittenRows::default();
        self.write_runs(tx, &mut written)?;
        self.write_agents(tx, &mut written)?;
        self.write_tasks(tx, &mut written)?;
        self.write_attempts(tx, &mut written)?;
        self.write_events(tx, &mut written)?;
        self.write_artifacts(tx, &mut written)?;
        self.write_checkpoints(tx, &mut written)?;
        self.write_approvals(tx, &mut written)?;
        Ok(written.skipped)
    }

    /// Returns an iterator over the rows of a table. The iterator advances the progress bar with each row.
    fn rows<'a, R>(&'a self, table: &'static str, rows: &'a [R]) -> impl Iterator<Item = &'a R> {
        self.bar.set_message(table);
        rows.iter().inspect(|_| self.bar.inc(1))
    }

    fn write_runs(&self, tx: &mut dyn Tx, written: &mut WrittenRows) -> Result<()> {
        for row in self.rows("runs", &self.file.runs) {
            if runs::find(tx, &row.id)?.is_some() {
                let problem = format!("run {} already exists in the database: pass another database with --db", row.id);
                return Err(Error::field("file", problem));
            }
            let run = self.convert_run(tx, row)?;
            runs::insert(tx, &run)?;
            written.runs.insert(run.id.clone(), Rc::new(run));
        }
        Ok(())
    }

    fn convert_run(&self, tx: &mut dyn Tx, row: &RunRow) -> Result<Run> {
        let name = |column: &str| format!("run {}: {column}", row.id);
        let draft = RunDraft {
            goal: check_text(&name("goal"), &row.goal)?,
            repo_path: check_text(&name("repo_path"), &row.repo_path)?,
            labels: Labels::new(),
        };
        let created = parse_time(&name("created_at"), &row.created_at)?;
        let run = Run::new(tx.next_key()?, field::id(&name("id"), &row.id)?, draft, created);
        Ok(Run {
            status: self.statuses.parse(&name("status"), &row.status)?,
            summary: check_optional_text(&name("summary"), row.summary.as_deref())?,
            cycle_count: field::count(&name("cycle_count"), row.cycle_count)?,
            replan_count: field::count(&name("replan_count"), row.replan_count)?,
            current_task_id: check_optional_text(&name("current_task_id"), row.current_task_id.as_deref())?,
            update_time: parse_time(&name("updated_at"), &row.updated_at)?,
            ..run
        })
    }

    fn write_agents(&self, tx: &mut dyn Tx, written: &mut WrittenRows) -> Result<()> {
        for row in self.rows("agents", &self.file.agents) {
            let name = |column: &str| format!("agent {} of run {}: {column}", row.role, row.run_id);
            let Some(run) = written.find_run("agents", &row.run_id) else { continue };
            let state = AgentState {
                run_id: row.run_id.clone(),
                role: field::name_or_blank(&name("role"), &row.role)?,
                session_id: check_optional_text(&name("session_id"), row.session_id.as_deref())?,
                turns: field::count(&name("turns"), row.turns)?,
                rotation_count: field::count(&name("rotation_count"), row.rotation_count)?,
                last_prompt_path: check_optional_text(&name("last_prompt_path"), row.last_prompt_path.as_deref())?,
                last_response_path: check_optional_text(
                    &name("last_response_path"),
                    row.last_response_path.as_deref(),
                )?,
                revision: 1,
                update_time: parse_time(&name("updated_at"), &row.updated_at)?,
            };
            agents::save(tx, run.key, &state)?;
        }
        Ok(())
    }

    fn write_tasks(&self, tx: &mut dyn Tx, written: &mut WrittenRows) -> Result<()> {
        for row in self.rows("tasks", &self.file.tasks) {
            let Some(run) = written.find_run("tasks", &row.run_id) else { continue };
            let task = self.convert_task(tx, &run, row)?;
            tasks::insert(tx, &task)?;
            written.tasks.insert(task.id.clone(), task.key);
        }
        Ok(())
    }

    fn convert_task(&self, tx: &mut dyn Tx, run: &Run, row: &TaskRow) -> Result<Task> {
        let name = |column: &str| format!("task {}: {column}", row.id);
        let spec = TaskSpec {
            title: check_text(&name("title"), &row.title)?,
            objective: check_text(&name("objective"), &row.objective)?,
            acceptance_criteria: parse_string_list(&name("acceptance_criteria_json"), &row.acceptance_criteria_json)?,
            verification_steps: parse_string_list(&name("verification_steps_json"), &row.verification_steps_json)?,
            allowed_paths: parse_string_list(&name("allowed_paths_json"), &row.allowed_paths_json)?,
            ..TaskSpec::default()
        };
        let ordinal = runs::assign_ordinals(tx, run.key, 1)?;
        let id = field::id(&name("id"), &row.id)?;
        let path_set_key = path_sets::find_or_insert(tx, run, &spec.allowed_paths)?;
        let task = Task::new(tx.next_key()?, id, run, ordinal, spec, parse_time(&name("created_at"), &row.created_at)?);
        Ok(Task {
            path_set_key,
            status: self.statuses.parse(&name("status"), &row.status)?,
            attempt_count: field::count(&name("attempt_count"), row.attempt_count)?,
            implementation_summary: check_optional_text(
                &name("implementation_summary"),
                row.implementation_summary.as_deref(),
            )?,
            blocker_signature: check_optional_text(&name("blocker_signature"), row.blocker_signature.as_deref())?,
            update_time: parse_time(&name("updated_at"), &row.updated_at)?,
            ..task
        })
    }

    fn write_attempts(&self, tx: &mut dyn Tx, written: &mut WrittenRows) -> Result<()> {
        for row in self.rows("attempts", &self.file.attempts) {
            let name = |column: &str| format!("attempt {}: {column}", row.id);
            let (Some(run), Some(task_key)) = (written.runs.get(&row.run_id), written.tasks.get(&row.task_id)) else {
                written.count_skipped("attempts");
                continue;
            };
            let status: AttemptStatus = self.statuses.parse(&name("status"), &row.status)?;
            let create_time = parse_time(&name("created_at"), &row.created_at)?;
            let attempt = TaskAttempt {
                key: tx.next_key()?,
                id: field::id(&name("id"), &row.id)?,
                run_id: row.run_id.clone(),
                task_id: row.task_id.clone(),
                attempt_number: field::count(&name("attempt_number"), row.attempt_number)?,
                agent_id: None,
                status,
                summary: check_text(&name("summary"), &row.summary)?,
                blocker_signature: check_optional_text(&name("blocker_signature"), row.blocker_signature.as_deref())?,
                result: parse_json(&name("result_json"), &row.result_json)?,
                progress: Json::null(),
                create_time,
                end_time: (status != AttemptStatus::Running).then_some(create_time),
            };
            attempts::insert(tx, run.key, *task_key, &attempt, None)?;
        }
        Ok(())
    }

    fn write_events(&self, tx: &mut dyn Tx, written: &mut WrittenRows) -> Result<()> {
        for (at, row) in self.rows("events", &self.file.events).enumerate() {
            let Some(run) = written.find_run("events", &row.run_id) else { continue };
            let (draft, happened) = convert_event(at + 1, row)?;
            let appended = events::append_with_times(tx, run.key, [(&draft, happened)].into_iter())?;
            written.events.entry(row.run_id.clone()).or_default().push((happened, appended.last_position));
        }
        Ok(())
    }

    fn write_artifacts(&self, tx: &mut dyn Tx, written: &mut WrittenRows) -> Result<()> {
        for row in self.rows("artifacts", &self.file.artifacts) {
            let name = |column: &str| format!("artifact {}: {column}", row.id);
            let Some(run) = written.find_run("artifacts", &row.run_id) else { continue };
            let artifact = Artifact {
                key: tx.next_key()?,
                id: field::id(&name("id"), &row.id)?,
                run_id: row.run_id.clone(),
                task_id: None,
                role: field::optional_name(&name("role"), row.role.as_deref())?,
                kind: field::name_or_blank(&name("kind"), &row.kind)?,
                path: check_text(&name("path"), &row.path)?,
                metadata: parse_json(&name("metadata_json"), &row.metadata_json)?,
                create_time: parse_time(&name("created_at"), &row.created_at)?,
            };
            artifacts::insert(tx, run.key, None, &artifact)?;
        }
        Ok(())
    }

    fn write_checkpoints(&self, tx: &mut dyn Tx, written: &mut WrittenRows) -> Result<()> {
        for row in self.rows("checkpoints", &self.file.checkpoints) {
            let name = |column: &str| format!("checkpoint {}: {column}", row.id);
            let Some(run) = written.find_run("checkpoints", &row.run_id) else { continue };
            let taken = parse_time(&name("created_at"), &row.created_at)?;
            let before = written.events.get(&row.run_id).into_iter().flatten().filter(|(time, _)| *time <= taken);
            let checkpoint = Checkpoint {
                key: tx.next_key()?,
                id: field::id(&name("id"), &row.id)?,
                run_id: row.run_id.clone(),
                status: self.statuses.parse(&name("status"), &row.status)?,
                payload: parse_json(&name("payload_json"), &row.payload_json)?,
                position: before.map(|(_, position)| *position).max().unwrap_or(0),
                create_time: taken,
            };
            checkpoints::insert(tx, run.key, &checkpoint)?;
        }
        Ok(())
    }

    fn write_approvals(&self, tx: &mut dyn Tx, written: &mut WrittenRows) -> Result<()> {
        for row in self.rows("approvals", &self.file.approvals) {
            let name = |column: &str| format!("approval {}: {column}", row.id);
            let Some(run) = written.find_run("approvals", &row.run_id) else { continue };
            let verdict: ApprovalVerdict = self.statuses.parse(&name("verdict"), &row.verdict)?;
            let create_time = parse_time(&name("created_at"), &row.created_at)?;
            let id = field::id(&name("id"), &row.id)?;
            let approval = Approval {
                source: field::name_or_blank(&name("source"), &row.source)?,
                verdict,
                rationale: check_text(&name("rationale"), &row.rationale)?,
                payload: parse_json(&name("payload_json"), &row.payload_json)?,
                decide_time: (verdict != ApprovalVerdict::Pending).then_some(create_time),
                ..Approval::new(tx.next_key()?, id, (run.key, &run.id), None, create_time)
            };
            approvals::insert(tx, &approval)?;
        }
        Ok(())
    }
}

fn convert_event(at: usize, row: &EventRow) -> Result<(EventDraft, Timestamp)> {
    let name = |column: &str| format!("event {at}: {column}");
    let draft = EventDraft {
        task_key: None,
        // RunStore wrote its own events with the source `system`, so the import must accept this source.
        source: field::name_or_blank(&name("source"), &row.source)?,
        kind: field::name_or_blank(&name("kind"), &row.kind)?,
        message: check_text(&name("message"), &row.message)?,
        payload: parse_json(&name("payload_json"), &row.payload_json)?,
    };
    Ok((draft, parse_time(&name("ts"), &row.ts)?))
}

fn parse_time(column: &str, text: &str) -> Result<Timestamp> {
    field::time_from_text(column, text)
}

/// Checks a text, which may be blank. Fails if the text contains a NUL character or has more than `limits::VALUE_BYTES`
/// bytes. The lower text limits of the API do not apply, because RunStore had no text limits.
fn check_text(column: &str, text: &str) -> Result<String> {
    field::text_up_to(column, text, limits::VALUE_BYTES)
}

fn check_optional_text(column: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| check_text(column, value)).transpose()
}

/// Returns the JSON value of a text. Fails if the text is not JSON, or if the value exceeds a limit of the API.
fn parse_json(column: &str, text: &str) -> Result<Json> {
    let value = ProtoJson::parse(text).map_err(|error| {
        let problem = format!("the value must be JSON ({error}): correct the value and import the file again");
        Error::field(column, problem)
    })?;
    json_from_proto(column, Some(&value))
}

fn parse_string_list(column: &str, json: &str) -> Result<Vec<String>> {
    let entries: Vec<String> = serde_json::from_str(json).map_err(|error| {
        let problem = format!("the value must be a JSON list of strings ({error}): correct the value and import again");
        Error::field(column, problem)
    })?;
    entries.iter().map(|entry| check_text(column, entry)).collect()
}
