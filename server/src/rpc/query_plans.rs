//! Whatever the log and the plans grow to, what agents do all day takes as long: each statement finds its rows by an
//! index and takes them in its order.

use std::time::Duration;

use runhub_api::v1;

use super::plan::parse_drafts;
use super::snapshot;
use crate::actions::claim::{self, Claimed, Wanted};
use crate::actions::end_task::{self, EndTask};
use crate::actions::lease::{self, Beat};
use crate::actions::paths::Overlaps;
use crate::actions::{cancel, explain, log, plan, requeue};
use crate::clock::{Clock, SystemClock};
use crate::domain::event::EventDraft;
use crate::domain::json::Json;
use crate::domain::run::{Run, RunDraft};
use crate::domain::task::{Caller, EndStatus, Ending, TaskStatus};
use crate::error::Result;
use crate::store::events::Scan;
use crate::store::requests::{self, StoredAnswer};
use crate::store::{
    Limit, Tx, approvals, artifacts, attempts, checkpoints, compaction, due, events, plans, runs, tasks,
};

const PAGE: Limit = Limit { rows: 10, bytes: 10_000 };

#[test]
fn every_statement_finds_its_rows_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let plans = plans::explain(&folder.path().join("db"), &SystemClock, |tx| {
        let run = new_run(tx)?;
        work(tx, &run)?;
        look(tx, &run)?;
        sweep(tx, &run)
    });
    let slow = plans::slow(&plans);
    assert!(slow.is_empty(), "{slow:#?}");
    assert!(plans.len() > 75, "only {} statements were looked at", plans.len());
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
    due::look(tx, now, now)?;
    due::next(tx, now)?;
    due::recover(tx, now, now)?;
    let held = claim(tx, run, true, &Overlaps::default())?;
    lease::expire(tx, held.task.key, now.plus(Duration::from_secs(3_600)))?;
    requests::forget_before(tx, now)?;
    compaction::remove_before(tx, now)?;
    compaction::oldest_position(tx, Some(run.key))?;
    let run = runs::get(tx, &run.id)?;
    cancel::cancel(tx, &run, "", Duration::ZERO).map(drop)
}
