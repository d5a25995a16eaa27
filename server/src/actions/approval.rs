//! Approvals: requested or recorded, decided, expired, cancelled, consumed (C9).

use super::run;
use crate::domain::Key;
use crate::domain::approval::{Approval, ApprovalDraft, ApprovalRequest, ApprovalVerdict, Decision, ExpiryPolicy};
use crate::domain::event::EventDraft;
use crate::domain::system_event;
use crate::error::{Error, Result};
use crate::store::{Limit, Page, Signal, Tx, approvals, events, runs, tasks};

/// Requests an approval. Fails if the run takes no new work.
pub fn request(tx: &mut dyn Tx, request: &ApprovalRequest) -> Result<Approval> {
    let run = runs::get(tx, &request.run_id)?;
    run.check_takes_work()?;
    let now = tx.now();
    let approval = Approval {
        title: request.title.clone(),
        payload: request.payload.clone(),
        requested_by: request.requested_by.clone(),
        subject_digest: request.subject_digest.clone(),
        on_expiry: request.on_expiry,
        expire_time: request.expire_time.or(request.ttl.map(|ttl| now.plus(ttl))),
        ..blank(tx, run.key, &request.run_id, request.task_id.as_deref())?
    };
    add(tx, &approval, &system_event::approval_requested(&approval))?;
    Ok(approval)
}

/// Records an approval that was decided elsewhere.
pub fn record(tx: &mut dyn Tx, draft: &ApprovalDraft) -> Result<Approval> {
    let run_key = runs::key(tx, &draft.run_id)?;
    let approval = Approval {
        source: draft.source.clone(),
        verdict: draft.verdict,
        rationale: draft.rationale.clone(),
        payload: draft.payload.clone(),
        decide_time: Some(tx.now()),
        ..blank(tx, run_key, &draft.run_id, draft.task_id.as_deref())?
    };
    add(tx, &approval, &system_event::approval_recorded(&approval))?;
    Ok(approval)
}

fn blank(tx: &mut dyn Tx, run_key: Key, run_id: &str, task_id: Option<&str>) -> Result<Approval> {
    let task_key = task_id.map(|id| tasks::key_in_run(tx, run_key, id)).transpose()?;
    Ok(Approval::new(tx.next_key()?, tx.new_id(), (run_key, run_id), task_key.zip(task_id), tx.now()))
}

/// Adds an approval with its event.
pub fn add(tx: &mut dyn Tx, approval: &Approval, event: &EventDraft) -> Result<()> {
    approvals::insert(tx, approval)?;
    if let (ApprovalVerdict::Pending, Some(time)) = (approval.verdict, approval.expire_time) {
        tx.signal(Signal::Due(time));
    }
    events::append(tx, approval.run_key, event).map(drop)
}

/// Decides a pending approval.
pub fn decide(tx: &mut dyn Tx, id: &str, decision: &Decision) -> Result<Approval> {
    let next = approvals::get(tx, id)?.decided(decision, tx.now())?;
    save(tx, &next, &system_event::approval_decided(&next))?;
    Ok(next)
}

/// Cancels a pending approval.
pub fn cancel(tx: &mut dyn Tx, id: &str) -> Result<Approval> {
    let next = approvals::get(tx, id)?.cancelled("", tx.now())?;
    save(tx, &next, &system_event::approval_cancelled(&next))?;
    Ok(next)
}

/// Consumes an approval. An approval that is due is decided by its policy first, so that the answer does not depend on
/// whether the sweeper has expired it yet.
pub fn consume(tx: &mut dyn Tx, id: &str, digest: &str) -> Result<Approval> {
    let mut approval = approvals::get(tx, id)?;
    if approval.is_due(tx.now()) {
        // Expiry and consumption commit together, so they count as one change of the approval.
        approval = Approval { revision: approval.revision, ..expire_due(tx, &approval)? };
    }
    let next = approval.consumed(digest, tx.now())?;
    save(tx, &next, &system_event::approval_consumed(&next))?;
    Ok(next)
}

/// Applies the expiry policy of an approval. Returns false if the approval is not due any more.
pub fn expire(tx: &mut dyn Tx, key: Key) -> Result<bool> {
    let Some(approval) = approvals::find_by_key(tx, key)? else { return Ok(false) };
    let is_due = approval.is_due(tx.now());
    if is_due {
        expire_due(tx, &approval)?;
    }
    Ok(is_due)
}

fn expire_due(tx: &mut dyn Tx, approval: &Approval) -> Result<Approval> {
    let next = approval.expired(tx.now());
    save(tx, &next, &system_event::approval_expired(&next))?;
    if next.on_expiry == ExpiryPolicy::PauseRun {
        pause_run(tx, &next)?;
    }
    Ok(next)
}

fn pause_run(tx: &mut dyn Tx, approval: &Approval) -> Result<()> {
    let run = runs::by_key(tx, approval.run_key)?;
    let reason = format!("approval {} expired before anybody decided it", approval.id);
    match run::pause_loaded(tx, &run, &reason) {
        // A run that has ended or is being cancelled needs no pause.
        Ok(_) | Err(Error::RunEnded { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn save(tx: &mut dyn Tx, approval: &Approval, event: &EventDraft) -> Result<()> {
    approvals::save(tx, approval)?;
    if approval.verdict != ApprovalVerdict::Pending {
        tx.signal(Signal::Decided(approval.key));
    }
    events::append(tx, approval.run_key, event).map(drop)
}

/// Returns the approval of a source in a run that was decided last, if any.
pub fn latest(tx: &mut dyn Tx, run_id: &str, source: &str) -> Result<Option<Approval>> {
    let run_key = runs::key(tx, run_id)?;
    approvals::latest(tx, run_key, source)
}

/// The query of a list of approvals.
#[derive(Debug, Clone)]
pub struct ApprovalQuery {
    /// The run. None: all runs.
    pub run_id: Option<String>,
    /// A bit mask of verdicts.
    pub verdicts: i64,
    /// The source. None: all sources.
    pub source: Option<String>,
}

/// Lists approvals after a key, the oldest first.
pub fn list(tx: &mut dyn Tx, query: &ApprovalQuery, after: i64, limit: Limit) -> Result<Page<Approval>> {
    let run_key = query.run_id.as_deref().map(|id| runs::key(tx, id)).transpose()?;
    let filter = approvals::Filter { run_key, verdicts: query.verdicts, source: query.source.clone() };
    approvals::list(tx, &filter, after, limit)
}
