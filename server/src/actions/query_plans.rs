//! This module tests that the cost of a statement does not grow with the log and the plans. Each statement of an action
//! must find its rows by an index and read the rows in the order of that index.

use std::sync::Arc;
use std::time::Duration;

use super::claim::{Claim, ClaimRequest};
use super::claim_index::{ClaimIndex, Loading};
use super::event::CallerEvent;
use super::lease::{Heartbeat, LeaseHeartbeat};
use super::log::EventQuery;
use super::obstacle::PathCounter;
use super::paths::Overlaps;
use super::plan::ReplacePlan;
use super::snapshot::SnapshotLimits;
use super::task::EndTask;
use super::{
    Outcome, Postponed, agent, approval, artifact, attempt, cancel, checkpoint, claim, claim_index, deletion, event,
    lease, log, obstacle, plan, run, snapshot, task,
};
use crate::clock::{Clock, SystemClock};
use crate::domain::agent::AgentState;
use crate::domain::approval::{ApprovalRequest, ApprovalVerdict, Decision, ExpiryPolicy};
use crate::domain::artifact::ArtifactDraft;
use crate::domain::attempt::{AttemptReport, AttemptStatus};
use crate::domain::event::{EventDraft, EventFilter};
use crate::domain::json::Json;
use crate::domain::run::{Run, RunDraft};
use crate::domain::task::{Caller, EndStatus, Ending, Task, TaskDraft, TaskSpec, TaskStatus};
use crate::domain::time::ClockStep;
use crate::error::Result;
use crate::store::events::Scan;
use crate::store::requests::{self, StoredAnswer};
use crate::store::{Limit, Tx, approvals, checkpoints, compaction, due, postgres_plans, runs, sqlite_plans, tasks};

const PAGE: Limit = Limit { rows: 10, bytes: 10_000 };

/// Runs every action, and so every statement of the store.
fn run_all_actions(tx: &mut dyn Tx) -> Result<()> {
    let run = new_run(tx)?;
    run_task_actions(tx, &run)?;
    run_record_actions(tx, &run)?;
    run_approval_actions(tx, &run)?;
    run_read_actions(tx, &run)?;
    run_control_actions(tx, &run)?;
    run_sweep_actions(tx, &run)
}

#[test]
fn every_statement_finds_its_rows_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let plans = sqlite_plans::explain(&folder.path().join("db"), &SystemClock::new(), run_all_actions);
    let slow = sqlite_plans::find_slow(&plans);
    assert!(slow.is_empty(), "these statements need an index: {slow:#?}");
    let (_, leased) = plans.iter().find(|(sql, _)| sql.contains("repo_path = (SELECT")).unwrap();
    assert!(leased[0].contains("tasks_leased_paths"), "the statement reads all tasks with paths: {leased:?}");
    assert!(plans.len() > 105, "only {} statements ran: call the missing actions", plans.len());
}

#[test]
fn every_statement_finds_its_rows_by_an_index_on_postgresql() {
    let Some(postgres) = runhub_test_postgres::shared() else { return };
    let address = postgres.create_database().parse().unwrap();
    let plans = postgres_plans::explain(&address, &SystemClock::new(), run_all_actions);
    let slow = postgres_plans::find_slow(&plans);
    assert!(slow.is_empty(), "these statements need an index: {slow:#?}");
    assert!(plans.len() > 105, "only {} statements ran: call the missing actions", plans.len());
}

fn new_run(tx: &mut dyn Tx) -> Result<Run> {
    let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
    run::create(tx, &draft)
}

fn new_task_draft(key: &str, depends_on: &[&str], paths: &[&str]) -> TaskDraft {
    let strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    let spec = TaskSpec { title: key.into(), allowed_paths: strings(paths), ..TaskSpec::default() };
    TaskDraft { key: key.into(), spec, depends_on: strings(depends_on) }
}

/// Runs the actions that add, claim, end and explain tasks, and the statements for events and requests.
fn run_task_actions(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let mut drafts =
        vec![new_task_draft("a", &[], &["src"]), new_task_draft("b", &["a"], &[]), new_task_draft("c", &[], &["doc"])];
    // The conflicting tasks make the claim check path sets.
    drafts.extend((0..40).map(|number| new_task_draft(&format!("conflicting {number}"), &[], &["src"])));
    drafts.push(new_task_draft("abandoned", &[], &[]));
    drafts.push(new_task_draft("dependent", &["abandoned"], &[]));
    let added = plan::add(tx, &run.id, &drafts)?;
    plan::add(tx, &run.id, &[new_task_draft("d", &[&added[0].id], &[])])?;
    let overlaps = Arc::<Overlaps>::default();
    let index = ClaimIndex::new(Arc::clone(&overlaps));
    load(tx, &index)?;
    let first = claim_next(tx, Some(run), &index)?;
    send_heartbeat(tx, &first, Some(Json::null()), &index)?;
    let by_sets = claim_next(tx, Some(run), &index)?;
    end_task(tx, &by_sets, EndStatus::Failed)?;
    end_task(tx, &first, EndStatus::Completed)?;
    end_task(tx, &first, EndStatus::Released)?;
    let of_any_run = claim_next(tx, None, &index)?;
    end_task(tx, &of_any_run, EndStatus::Released)?;
    abandon_and_requeue(tx, &added[added.len() - 2])?;
    obstacle::explain(tx, &added[5].id, &overlaps)?;
    for run_id in [Some(run.id.as_str()), None] {
        obstacle::count(tx, run_id, &[], &overlaps, &mut PathCounter::default())?;
    }
    let draft =
        EventDraft { task_key: None, source: "s".into(), kind: "k".into(), message: "".into(), payload: Json::null() };
    event::append(tx, &run.id, &[CallerEvent { task_id: Some(added[0].id.clone()), draft }])?;
    requests::insert(tx, "R", "id", &StoredAnswer { fingerprint: vec![], refused: false, answer: vec![] })?;
    requests::find(tx, "R", "id").map(drop)
}

fn load(tx: &mut dyn Tx, index: &ClaimIndex) -> Result<()> {
    let mut loading = Loading::default();
    while !index.load_page(tx, &mut loading)? {}
    Ok(())
}

fn new_claim_request(run: Option<&Run>) -> ClaimRequest {
    let run_id = run.map(|run| run.id.clone());
    ClaimRequest { run_id, agent_id: "agent".into(), capabilities: vec![], lease_duration: Duration::from_secs(60) }
}

fn claim_next(tx: &mut dyn Tx, run: Option<&Run>, index: &ClaimIndex) -> Result<Claim> {
    loop {
        match claim::claim(tx, &new_claim_request(run), index, 0)? {
            Outcome::Done(claim) => return Ok(claim.unwrap()),
            Outcome::Postponed(Postponed::Again) => {}
            other => panic!("the claim has the outcome {other:?}"),
        }
    }
}

fn send_heartbeat(tx: &mut dyn Tx, claim: &Claim, progress: Option<Json>, index: &ClaimIndex) -> Result<()> {
    let beats = vec![LeaseHeartbeat { token: claim.lease.token.clone(), progress }];
    lease::heartbeat(tx, &Heartbeat { beats, duration: None }, index).map(drop)
}

fn end_task(tx: &mut dyn Tx, claim: &Claim, to: EndStatus) -> Result<()> {
    let caller = Caller::Holder(claim.lease.token.clone());
    let request = EndTask { rpc: "R", task_id: claim.task.id.clone(), caller, ending: Ending::new(to) };
    task::end(tx, &request).map(drop)
}

fn abandon_and_requeue(tx: &mut dyn Tx, task: &Task) -> Result<()> {
    let ending = Ending::new(EndStatus::Abandoned);
    task::end(tx, &EndTask { rpc: "R", task_id: task.id.clone(), caller: Caller::Operator, ending })?;
    task::requeue(tx, &task.id, "").map(drop)
}

/// Runs the actions that save agent states, checkpoints and artifacts.
fn run_record_actions(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let state = AgentState {
        run_id: run.id.clone(),
        role: "role".into(),
        session_id: None,
        turns: 0,
        rotation_count: 0,
        last_prompt_path: None,
        last_response_path: None,
        revision: 0,
        update_time: tx.now(),
    };
    agent::save(tx, &state, None)?;
    agent::find(tx, &run.id, "role")?;
    let checkpoint = checkpoint::create(tx, &run.id, run.status, &Json::null())?;
    checkpoints::get(tx, &checkpoint.id)?;
    let artifact = ArtifactDraft {
        run_id: run.id.clone(),
        task_id: None,
        role: None,
        kind: "kind".into(),
        path: "path".into(),
        metadata: Json::null(),
    };
    artifact::create(tx, &artifact).map(drop)
}

/// Runs the statements that delete a run in several transactions.
fn delete_in_parts(tx: &mut dyn Tx) -> Result<()> {
    let run = new_run(tx)?;
    crate::store::deletion::hide(tx, run.key)?;
    deletion::continue_deletion(tx, run.key)
}

/// Runs the actions that request, decide, consume, cancel and expire approvals.
fn run_approval_actions(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let mut requested = Vec::new();
    for expire_time in [None, None, Some(tx.now())] {
        let request = ApprovalRequest {
            run_id: run.id.clone(),
            task_id: None,
            title: "title".into(),
            payload: Json::null(),
            requested_by: String::new(),
            subject_digest: "digest".into(),
            on_expiry: ExpiryPolicy::Reject,
            expire_time,
            ttl: None,
        };
        requested.push(approval::request(tx, &request)?);
    }
    let decision = Decision {
        source: "source".into(),
        verdict: ApprovalVerdict::Approved,
        rationale: String::new(),
        expected_revision: None,
        expected_subject_digest: None,
    };
    approval::decide(tx, &requested[0].id, &decision)?;
    approval::consume(tx, &requested[0].id, "digest")?;
    approval::cancel(tx, &requested[1].id)?;
    approval::expire(tx, requested[2].key).map(drop)
}

/// Runs the actions that change a run as a whole, such as replacing its plan, pausing, cancelling and deleting.
fn run_control_actions(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let drafts = vec![new_task_draft("again", &[], &[])];
    let replace = ReplacePlan {
        run_id: run.id.clone(),
        drafts: drafts.clone(),
        expected_plan_version: None,
        keep_in_progress: false,
    };
    let replaced = plan::replace(tx, &replace)?;
    let report = AttemptReport {
        attempt_number: 1,
        status: AttemptStatus::Failed,
        summary: "".into(),
        blocker_signature: None,
        result: Json::null(),
    };
    attempt::record(tx, &run.id, &replaced.tasks[0].id, &report)?;
    let index = ClaimIndex::default();
    load(tx, &index)?;
    claim_next(tx, Some(run), &index)?;
    task::requeue_in_progress(tx, &run.id)?;
    run::increment_cycle(tx, &run.id)?;
    run::pause(tx, &run.id, "")?;
    run::resume(tx, &run.id, "")?;
    let other = new_run(tx)?;
    plan::add(tx, &other.id, &drafts)?;
    cancel::cancel(tx, &other.id, "", Duration::ZERO)?;
    deletion::delete(tx, &other.id, None)?;
    delete_in_parts(tx)
}

/// Runs the actions that read lists and snapshots, and the reads of watchers.
fn run_read_actions(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    for limit in [None, Some(10)] {
        let limits = SnapshotLimits { events: 10, attempts: 10, tasks: limit, approvals: limit, artifacts: limit };
        snapshot::read(tx, &run.id, &limits, &mut |_| Ok(()))?;
    }
    for (run_key, newest_first) in [(Some(run.key), false), (Some(run.key), true), (None, false), (None, true)] {
        log::read(tx, &Scan { run_key, newest_first, ..Scan::default() }, Some(0), PAGE)?;
    }
    let filter = EventFilter::default();
    log::start_list(tx, &EventQuery { run_id: Some(run.id.clone()), after: None, before: None, filter })?;
    runs::list(tx, i64::MAX, i64::MAX, PAGE)?;
    let first = task::list(tx, &run.id, &[], 0, PAGE)?.rows.remove(0);
    task::list(tx, &run.id, &[TaskStatus::Pending, TaskStatus::Blocked], 0, PAGE)?;
    tasks::exists(tx, &first.id)?;
    attempt::list_newest(tx, &attempt::AttemptScope::Task(first.id), PAGE)?;
    approval::find_latest(tx, &run.id, "source")?;
    checkpoint::find_latest(tx, &run.id)?;
    checkpoint::list(tx, &run.id, 0, PAGE)?;
    for role in [None, Some("role")] {
        artifact::list(tx, &run.id, role, 0, PAGE)?;
    }
    for (run_key, verdicts) in [(Some(run.key), i64::MAX), (None, 1 << 1), (None, i64::MAX)] {
        approvals::list(tx, &approvals::Filter { run_key, verdicts, source: None }, 0, PAGE)?;
    }
    Ok(())
}

/// Runs the statements of the sweeper and of retention.
fn run_sweep_actions(tx: &mut dyn Tx, run: &Run) -> Result<()> {
    let now = SystemClock::new().now();
    due::find(tx, now)?;
    due::next_due_time(tx)?;
    claim_index::end_delays(tx)?;
    lease::recover(tx, now, ClockStep::between(now, now.plus(Duration::from_secs(3_600))))?;
    let index = ClaimIndex::default();
    load(tx, &index)?;
    let held = claim_next(tx, Some(run), &index)?;
    lease::expire(tx, held.task.key, now.plus(Duration::from_secs(3_600)))?;
    // A heartbeat for an expired lease resumes the lease. Resuming a lease runs other SQL statements than extending a
    // lease.
    send_heartbeat(tx, &held, None, &index)?;
    requests::remove_before(tx, now)?;
    compaction::remove_before(tx, now)?;
    compaction::oldest_position(tx, Some(run.key))?;
    cancel::cancel(tx, &run.id, "", Duration::ZERO).map(drop)
}
