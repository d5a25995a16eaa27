//! Writes what RunStore had: every table, ids and times kept, in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use indicatif::ProgressBar;
use runhub_api::Json as ProtoJson;

use super::super::note_import;
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
use crate::store::runstore::{EventRow, RunRow, RunStoreFile, TaskRow};
use crate::store::{Tx, agents, approvals, artifacts, attempts, checkpoints, events, path_sets, runs, tasks};

/// What is to be written.
pub struct Import {
    pub file: RunStoreFile,
    pub statuses: Statuses,
    pub digest: String,
    pub bar: ProgressBar,
}

/// What was written so far.
#[derive(Default)]
struct Written {
    runs: HashMap<String, Rc<Run>>,
    tasks: HashMap<String, Key>,
    /// Of each run: the time and position of every event.
    events: HashMap<String, Vec<(Timestamp, i64)>>,
    /// Rows whose run or task is not there, by table.
    left_out: BTreeMap<&'static str, usize>,
}

impl Written {
    /// The run of a row; a row whose run is not there is left out.
    fn run(&mut self, table: &'static str, id: &str) -> Option<Rc<Run>> {
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
    /// Writes everything; returns how many rows of which table were left out.
    pub fn write(&self, tx: &mut dyn Tx) -> Result<BTreeMap<&'static str, usize>> {
        note_import(tx, &self.digest, "runstore", self.file.runs.len())?;
        self.bar.set_position(0);
        let mut done = Written::default();
        self.write_runs(tx, &mut done)?;
        self.write_agents(tx, &mut done)?;
        self.write_tasks(tx, &mut done)?;
        self.write_attempts(tx, &mut done)?;
        self.write_events(tx, &mut done)?;
        self.write_artifacts(tx, &mut done)?;
        self.write_checkpoints(tx, &mut done)?;
        self.write_approvals(tx, &mut done)?;
        Ok(done.left_out)
    }

    /// The rows of a table, with the progress shown.
    fn rows<'a, R>(&'a self, table: &'static str, rows: &'a [R]) -> impl Iterator<Item = &'a R> {
        self.bar.set_message(table);
        rows.iter().inspect(|_| self.bar.inc(1))
    }

    fn write_runs(&self, tx: &mut dyn Tx, done: &mut Written) -> Result<()> {
        for row in self.rows("runs", &self.file.runs) {
            if runs::find(tx, &row.id)?.is_some() {
                let problem = format!("run {} is in the database already: nothing was changed", row.id);
                return Err(Error::field("file", problem));
            }
            let run = self.run(tx, row)?;
            runs::insert(tx, &run)?;
            done.runs.insert(run.id.clone(), Rc::new(run));
        }
        Ok(())
    }

    fn run(&self, tx: &mut dyn Tx, row: &RunRow) -> Result<Run> {
        let of = |column: &str| format!("run {}: {column}", row.id);
        let draft = RunDraft {
            goal: text(&of("goal"), &row.goal)?,
            repo_path: text(&of("repo_path"), &row.repo_path)?,
            labels: Labels::new(),
        };
        let created = time(&of("created_at"), &row.created_at)?;
        let run = Run::new(tx.next_key()?, field::id(&of("id"), &row.id)?, draft, created);
        Ok(Run {
            status: self.statuses.of(&of("status"), &row.status)?,
            summary: optional(&of("summary"), row.summary.as_deref())?,
            cycle_count: field::count(&of("cycle_count"), row.cycle_count)?,
            replan_count: field::count(&of("replan_count"), row.replan_count)?,
            current_task_id: optional(&of("current_task_id"), row.current_task_id.as_deref())?,
            update_time: time(&of("updated_at"), &row.updated_at)?,
            ..run
        })
    }

    fn write_agents(&self, tx: &mut dyn Tx, done: &mut Written) -> Result<()> {
        for row in self.rows("agents", &self.file.agents) {
            let of = |column: &str| format!("agent {} of run {}: {column}", row.role, row.run_id);
            let Some(run) = done.run("agents", &row.run_id) else { continue };
            let state = AgentState {
                run_id: row.run_id.clone(),
                role: field::plain_name(&of("role"), &row.role)?,
                session_id: optional(&of("session_id"), row.session_id.as_deref())?,
                turns: field::count(&of("turns"), row.turns)?,
                rotation_count: field::count(&of("rotation_count"), row.rotation_count)?,
                last_prompt_path: optional(&of("last_prompt_path"), row.last_prompt_path.as_deref())?,
                last_response_path: optional(&of("last_response_path"), row.last_response_path.as_deref())?,
                revision: 1,
                update_time: time(&of("updated_at"), &row.updated_at)?,
            };
            agents::save(tx, run.key, &state)?;
        }
        Ok(())
    }

    fn write_tasks(&self, tx: &mut dyn Tx, done: &mut Written) -> Result<()> {
        for row in self.rows("tasks", &self.file.tasks) {
            let Some(run) = done.run("tasks", &row.run_id) else { continue };
            let task = self.task(tx, &run, row)?;
            tasks::insert(tx, &task)?;
            done.tasks.insert(task.id.clone(), task.key);
        }
        Ok(())
    }

    fn task(&self, tx: &mut dyn Tx, run: &Run, row: &TaskRow) -> Result<Task> {
        let of = |column: &str| format!("task {}: {column}", row.id);
        let spec = TaskSpec {
            title: text(&of("title"), &row.title)?,
            objective: text(&of("objective"), &row.objective)?,
            acceptance_criteria: list(&of("acceptance_criteria_json"), &row.acceptance_criteria_json)?,
            verification_steps: list(&of("verification_steps_json"), &row.verification_steps_json)?,
            allowed_paths: list(&of("allowed_paths_json"), &row.allowed_paths_json)?,
            ..TaskSpec::default()
        };
        let ordinal = runs::take_ordinals(tx, run.key, 1)?;
        let id = field::id(&of("id"), &row.id)?;
        let path_set_key = path_sets::of_task(tx, run, &spec.allowed_paths)?;
        let task = Task::new(tx.next_key()?, id, run, ordinal, spec, time(&of("created_at"), &row.created_at)?);
        Ok(Task {
            path_set_key,
            status: self.statuses.of(&of("status"), &row.status)?,
            attempt_count: field::count(&of("attempt_count"), row.attempt_count)?,
            implementation_summary: optional(&of("implementation_summary"), row.implementation_summary.as_deref())?,
            blocker_signature: optional(&of("blocker_signature"), row.blocker_signature.as_deref())?,
            update_time: time(&of("updated_at"), &row.updated_at)?,
            ..task
        })
    }

    fn write_attempts(&self, tx: &mut dyn Tx, done: &mut Written) -> Result<()> {
        for row in self.rows("attempts", &self.file.attempts) {
            let of = |column: &str| format!("attempt {}: {column}", row.id);
            let (Some(run), Some(task_key)) = (done.runs.get(&row.run_id), done.tasks.get(&row.task_id)) else {
                done.leave_out("attempts");
                continue;
            };
            let status: AttemptStatus = self.statuses.of(&of("status"), &row.status)?;
            let written = time(&of("created_at"), &row.created_at)?;
            let attempt = TaskAttempt {
                key: tx.next_key()?,
                id: field::id(&of("id"), &row.id)?,
                run_id: row.run_id.clone(),
                task_id: row.task_id.clone(),
                attempt_number: field::count(&of("attempt_number"), row.attempt_number)?,
                agent_id: None,
                status,
                summary: text(&of("summary"), &row.summary)?,
                blocker_signature: optional(&of("blocker_signature"), row.blocker_signature.as_deref())?,
                result: json(&of("result_json"), &row.result_json)?,
                progress: Json::null(),
                create_time: written,
                end_time: (status != AttemptStatus::Running).then_some(written),
            };
            attempts::insert(tx, run.key, *task_key, &attempt, None)?;
        }
        Ok(())
    }

    fn write_events(&self, tx: &mut dyn Tx, done: &mut Written) -> Result<()> {
        for (at, row) in self.rows("events", &self.file.events).enumerate() {
            let Some(run) = done.run("events", &row.run_id) else { continue };
            let (draft, happened) = event(at + 1, row)?;
            let appended = events::append_at(tx, run.key, [(&draft, happened)].into_iter())?;
            done.events.entry(row.run_id.clone()).or_default().push((happened, appended.last_position));
        }
        Ok(())
    }

    fn write_artifacts(&self, tx: &mut dyn Tx, done: &mut Written) -> Result<()> {
        for row in self.rows("artifacts", &self.file.artifacts) {
            let of = |column: &str| format!("artifact {}: {column}", row.id);
            let Some(run) = done.run("artifacts", &row.run_id) else { continue };
            let artifact = Artifact {
                key: tx.next_key()?,
                id: field::id(&of("id"), &row.id)?,
                run_id: row.run_id.clone(),
                task_id: None,
                role: field::optional_name(&of("role"), row.role.as_deref())?,
                kind: field::plain_name(&of("kind"), &row.kind)?,
                path: text(&of("path"), &row.path)?,
                metadata: json(&of("metadata_json"), &row.metadata_json)?,
                create_time: time(&of("created_at"), &row.created_at)?,
            };
            artifacts::insert(tx, run.key, None, &artifact)?;
        }
        Ok(())
    }

    fn write_checkpoints(&self, tx: &mut dyn Tx, done: &mut Written) -> Result<()> {
        for row in self.rows("checkpoints", &self.file.checkpoints) {
            let of = |column: &str| format!("checkpoint {}: {column}", row.id);
            let Some(run) = done.run("checkpoints", &row.run_id) else { continue };
            let taken = time(&of("created_at"), &row.created_at)?;
            let before = done.events.get(&row.run_id).into_iter().flatten().filter(|(time, _)| *time <= taken);
            let checkpoint = Checkpoint {
                key: tx.next_key()?,
                id: field::id(&of("id"), &row.id)?,
                run_id: row.run_id.clone(),
                status: self.statuses.of(&of("status"), &row.status)?,
                payload: json(&of("payload_json"), &row.payload_json)?,
                position: before.map(|(_, position)| *position).max().unwrap_or(0),
                create_time: taken,
            };
            checkpoints::insert(tx, run.key, &checkpoint)?;
        }
        Ok(())
    }

    fn write_approvals(&self, tx: &mut dyn Tx, done: &mut Written) -> Result<()> {
        for row in self.rows("approvals", &self.file.approvals) {
            let of = |column: &str| format!("approval {}: {column}", row.id);
            let Some(run) = done.run("approvals", &row.run_id) else { continue };
            let verdict: ApprovalVerdict = self.statuses.of(&of("verdict"), &row.verdict)?;
            let written = time(&of("created_at"), &row.created_at)?;
            let id = field::id(&of("id"), &row.id)?;
            let approval = Approval {
                source: field::plain_name(&of("source"), &row.source)?,
                verdict,
                rationale: text(&of("rationale"), &row.rationale)?,
                payload: json(&of("payload_json"), &row.payload_json)?,
                decide_time: (verdict != ApprovalVerdict::Pending).then_some(written),
                ..Approval::new(tx.next_key()?, id, (run.key, &run.id), None, written)
            };
            approvals::insert(tx, &approval)?;
        }
        Ok(())
    }
}

fn event(at: usize, row: &EventRow) -> Result<(EventDraft, Timestamp)> {
    let of = |column: &str| format!("event {at}: {column}");
    let draft = EventDraft {
        task_key: None,
        // RunStore's own events have the source `system` too.
        source: field::plain_name(&of("source"), &row.source)?,
        kind: field::plain_name(&of("kind"), &row.kind)?,
        message: text(&of("message"), &row.message)?,
        payload: json(&of("payload_json"), &row.payload_json)?,
    };
    Ok((draft, time(&of("ts"), &row.ts)?))
}

fn time(column: &str, text: &str) -> Result<Timestamp> {
    field::time_from_text(column, text)
}

/// RunStore had no limits and took blanks; what comes in must still fit into a message.
fn text(column: &str, text: &str) -> Result<String> {
    field::text_up_to(column, text, limits::VALUE_BYTES)
}

fn optional(column: &str, value: Option<&str>) -> Result<Option<String>> {
    value.map(|value| text(column, value)).transpose()
}

/// JSON within the same limits as over the API.
fn json(column: &str, text: &str) -> Result<Json> {
    let value = ProtoJson::parse(text).map_err(|error| Error::field(column, format!("is no JSON: {error}")))?;
    json_from_proto(column, Some(&value))
}

fn list(column: &str, json: &str) -> Result<Vec<String>> {
    let entries: Vec<String> =
        serde_json::from_str(json).map_err(|error| Error::field(column, format!("is no list of texts: {error}")))?;
    entries.iter().map(|entry| text(column, entry)).collect()
}
