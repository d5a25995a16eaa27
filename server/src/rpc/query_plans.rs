//! Whatever the log and the plans grow to, what agents do all day takes as long: each statement finds its rows by an
//! index and takes them in its order.

use std::time::Duration;

use runhub_api::v1;

use super::plan::parse_drafts;
use super::{attempt, snapshot};
use crate::actions::claim::{self, Claimed, Wanted};
use crate::actions::end_task::{self, EndTask};
use crate::actions::lease::{self, Beat};
use crate::actions::paths::Overlaps;
use crate::actions::{approval, cancel, delete_run, explain, log, plan, requeue, run_control};
use crate::clock::{Clock, SystemClock};
use crate::domain::agent::AgentState;
use crate::domain::approval::{Approval, ApprovalVerdict, Decision};
use crate::domain::artifact::Artifact;
use crate::domain::attempt::{AttemptReport, AttemptStatus};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::event::EventDraft;
use crate::domain::json::Json;
use crate::domain::run::{Run, RunDraft};
use crate::domain::system_event;
use crate::domain::task::{Caller, EndStatus, Ending, TaskStatus};
use crate::error::Result;
use crate::store::events::Scan;
use crate::store::requests::{self, StoredAnswer};
use crate::store::{
    Limit, Tx, agents, approvals, artifacts, attempts, checkpoints, compaction, due, events, query_plans, runs, tasks,
};

const PAGE: Limit = Limit { rows: 10, bytes: 10_000 };

#[test]
fn every_statement_finds_its_rows_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let plans = query_plans::explain(&folder.path().join("db"), &SystemClock, |tx| {
        let run = new_run(tx)?;
        work(tx, &run)?;
        keep(tx, &run)?;
        decide(tx, &run)?;
        look(tx, &run)?;
        control(tx, &run)?;
        sweep(tx, &run)
    });
    let slow = query_plans::slow(&plans);
    assert!(slow.is_empty(), "{slow:#?}");
    assert!(plans.len() > 105, "only {} statements were looked at", plans.len());
}

fn new_run(tx: &mut dyn Tx) -> Result<Run> {
    let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
    let run = Run::new(tx.next_key()?, tx.new_id(), draft, tx.now());
    runs::insert(tx, &run)?;
    Ok(run)
}

/// Planning, claiming, reporting.
fn work(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let keyed = |key: &str, depends_on: &[&str], paths: &[&str]| v1::TaskDraft {
        key: key.into(),
        title: key.into(),
        depends_on: depends_on.iter().map(ToString::to_string).collect(),
        allowed_paths: paths.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let mut drafts = vec![keyed("a", &[], &["src"]), keyed("b", &["a"], &[]), keyed("c", &[], &["doc"])];
    // More than a claim looks at one by one: it goes on by path sets.
    drafts.extend((0..40).map(|number| keyed(&format!("in the way {number}"), &[], &["src"])));
    drafts.push(keyed("given up", &[], &[]));
    drafts.push(keyed("of that", &["given up"], &[]));
    let added = plan::add(tx, &run.id, &parse_drafts(&drafts)?)?;
    plan::add(tx, &run.id, &parse_drafts(&[keyed("d", &[&added[0].id], &[])])?)?;
    let overlaps = Overlaps::default();
    let first = claim(tx, run, true, &overlaps)?;
    lease::beat(tx, &Beat { token: first.lease.token.clone(), progress: Some(Json::null()) }, None, &overlaps)?;
    let by_sets = claim(tx, run, true, &overlaps)?;
    end(tx, &by_sets, EndStatus::Failed)?;
    end(tx, &first, EndStatus::Completed)?;
    end(tx, &first, EndStatus::Released)?;
    let any = claim(tx, run, false, &overlaps)?;
    end(tx, &any, EndStatus::Released)?;
    let given_up = &added[added.len() - 2];
    let operator =
        |ending| EndTask { rpc: "AbandonTask", task_id: given_up.id.clone(), caller: Caller::Operator, ending };
    end_task::end(tx, &operator(ending(EndStatus::Abandoned)))?;
    requeue::requeue(tx, &given_up.id, "")?;
    explain::explain(tx, &added[5].id, &overlaps)?;
    for run_id in [Some(run.id.clone()), None] {
        claim::count_obstacles(tx, &wanted(run_id), &overlaps)?;
    }
    let event =
        EventDraft { task_key: None, source: "s".into(), kind: "k".into(), message: "".into(), payload: Json::null() };
    events::append(tx, run.key, &event)?;
    requests::insert(tx, "R", "id", &StoredAnswer { fingerprint: vec![], refused: false, answer: vec![] })?;
    requests::find(tx, "R", "id").map(drop)
}

fn wanted(run_id: Option<String>) -> Wanted {
    Wanted { run_id, agent_id: "agent".into(), capabilities: vec![], lease_duration: Duration::from_secs(60) }
}

fn claim(tx: &mut dyn Tx, run: &Run, of_run: bool, overlaps: &Overlaps) -> Result<Claimed> {
    let run_id = Some(run.id.clone()).filter(|_| of_run);
    Ok(claim::claim(tx, &wanted(run_id), overlaps)?.unwrap())
}

fn ending(to: EndStatus) -> Ending {
    Ending { to, summary: None, blocker_signature: None, result: Json::null(), retry_delay: None }
}

fn end(tx: &mut dyn Tx, claimed: &Claimed, to: EndStatus) -> Result<()> {
    let caller = Caller::Holder(claimed.lease.token.clone());
    end_task::end(tx, &EndTask { rpc: "R", task_id: claimed.task.id.clone(), caller, ending: ending(to) }).map(drop)
}

/// What is kept beside the tasks.
fn keep(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let (update_time, role, turns) = (tx.now(), "role".to_owned(), 0);
    let (session_id, last_prompt_path, last_response_path) = (None, None, None);
    let (run_id, rotation_count, revision) = (run.id.clone(), 0, 1);
    let state = AgentState {
        run_id,
        role,
        session_id,
        turns,
        rotation_count,
        last_prompt_path,
        last_response_path,
        revision,
        update_time,
    };
    agents::save(tx, run.key, &state)?;
    agents::find(tx, run.key, "role")?;
    let (key, id, run_id, payload) = (tx.next_key()?, tx.new_id(), run.id.clone(), Json::null());
    let (position, create_time) = (0, update_time);
    let checkpoint = Checkpoint { key, id, run_id, status: run.status, payload, position, create_time };
    checkpoints::insert(tx, run.key, &checkpoint)?;
    checkpoints::get(tx, &checkpoint.id)?;
    let (key, id, run_id, metadata) = (tx.next_key()?, tx.new_id(), run.id.clone(), Json::null());
    let (task_id, role, kind, path) = (None, None, "kind".into(), "path".into());
    artifacts::insert(
        tx,
        run.key,
        None,
        &Artifact { key, id, run_id, task_id, role, kind, path, metadata, create_time },
    )
}

/// Every way in which an approval ends.
fn decide(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let mut approvals = Vec::new();
    for expire_time in [None, None, Some(tx.now())] {
        let asked = Approval::new(tx.next_key()?, tx.new_id(), (run.key, &run.id), None, tx.now());
        let asked = Approval { subject_digest: "digest".into(), expire_time, ..asked };
        approval::add(tx, &asked, &system_event::run_created(run))?;
        approvals.push(asked);
    }
    let (source, rationale, verdict) = ("source".to_owned(), String::new(), ApprovalVerdict::Approved);
    let (expected_revision, expected_subject_digest) = (None, None);
    let decision = Decision { source, verdict, rationale, expected_revision, expected_subject_digest };
    approval::decide(tx, &approvals[0].id, &decision)?;
    approval::consume(tx, &approvals[0].id, "digest")?;
    approval::cancel(tx, &approvals[1].id)?;
    approval::expire(tx, approvals[2].key).map(drop)
}

/// What an orchestrator does to a run as a whole.
fn control(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let drafts = parse_drafts(&[v1::TaskDraft { title: "again".into(), ..Default::default() }])?;
    let replaced = plan::replace(tx, &run.id, &drafts, None, false)?;
    let (status, summary, blocker_signature, result) = (AttemptStatus::Failed, "".into(), None, Json::null());
    let report = AttemptReport { attempt_number: 1, status, summary, blocker_signature, result };
    attempt::record(tx, &run.id, &replaced.tasks[0].id, &report)?;
    claim(tx, run, true, &Overlaps::default())?;
    requeue::requeue_in_progress(tx, &run.id)?;
    let before = runs::get(tx, &run.id)?;
    let paused = run_control::pause(tx, &before, "")?;
    run_control::resume(tx, &paused, "")?;
    let other = new_run(tx)?;
    plan::add(tx, &other.id, &drafts)?;
    let before = runs::get(tx, &other.id)?;
    cancel::cancel(tx, &before, "", Duration::ZERO)?;
    delete_run::delete(tx, &other.id, None)
}

/// Lists, snapshots, and what watchers read.
fn look(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    snapshot::take(tx, &run.id, &snapshot::Limits::parse(&v1::GetRunSnapshotRequest::default())?)?;
    for (run_key, newest_first) in [(Some(run.key), false), (Some(run.key), true), (None, false), (None, true)] {
        log::look(tx, &Scan { run_key, newest_first, ..Scan::default() }, Some(0), PAGE)?;
    }
    log::check_scope(tx, Some(&run.id), None)?;
    runs::list(tx, i64::MAX, i64::MAX, PAGE)?;
    tasks::list(tx, run.key, 0, PAGE)?;
    tasks::list_with_statuses(tx, run.key, &[TaskStatus::Pending, TaskStatus::Blocked], 0, PAGE)?;
    let task = tasks::list(tx, run.key, 0, PAGE)?.rows.remove(0);
    attempts::newest_of_task(tx, task.key, PAGE)?;
    approvals::latest(tx, run.key, "source")?;
    checkpoints::latest(tx, run.key)?;
    checkpoints::list(tx, run.key, 0, PAGE)?;
    for role in [None, Some("role")] {
        artifacts::list(tx, run.key, role, 0, PAGE)?;
    }
    for (run_key, verdicts) in [(Some(run.key), i64::MAX), (None, 1 << 1), (None, i64::MAX)] {
        approvals::list(tx, &approvals::Filter { run_key, verdicts, source: None }, 0, PAGE)?;
    }
    Ok(())
}

/// What the server does by itself.
fn sweep(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let now = SystemClock.now();
    due::find(tx, now, now)?;
    due::next(tx, now)?;
    due::recover(tx, now, now)?;
    let held = claim(tx, run, true, &Overlaps::default())?;
    lease::expire(tx, held.task.key, now.plus(Duration::from_secs(3_600)))?;
    // It is heard of after all.
    lease::beat(tx, &Beat { token: held.lease.token, progress: None }, None, &Overlaps::default())?;
    requests::remove_before(tx, now)?;
    compaction::remove_before(tx, now)?;
    compaction::oldest_position(tx, Some(run.key))?;
    let run = runs::get(tx, &run.id)?;
    cancel::cancel(tx, &run, "", Duration::ZERO).map(drop)
}
