//! This module requests, records, decides, expires, cancels and consumes approvals.

use super::run;
use crate::domain::Key;
use crate::domain::approval::{Approval, ApprovalDraft, ApprovalRequest, ApprovalVerdict, Decision, ExpiryPolicy};
use crate::domain::event::EventDraft;
use crate::domain::system_event;
use crate::error::{Error, Result};
use crate::store::{Limit, Page, Signal, Tx, approvals, events, runs, tasks};

/// Adds a pending approval and returns the new approval. Fails if the run has ended or is being cancelled.
pub fn request(tx: &mut dyn Tx, request: &ApprovalRequest) -> Result<Approval> {
    let run = runs::get(tx, &request.run_id)?;
    run.check_active()?;
    let now = tx.now();
    let approval = Approval {
        title: request.title.clone(),
        payload: request.payload.clone(),
        requested_by: request.requested_by.clone(),
        subject_digest: request.subject_digest.clone(),
        on_expiry: request.on_expiry,
        expire_time: request.expire_time.or(request.ttl.map(|ttl| now.plus(ttl))),
        has_ttl: request.ttl.is_some(),
        ..new_approval(tx, run.key, &request.run_id, request.task_id.as_deref())?
    };
    add(tx, &approval, &system_event::approval_requested(&approval))?;
    Ok(approval)
}

/// Records an approval that was decided outside the server, and returns the approval. Fails if the run does not exist,
/// or if the approval's task belongs to another run.
pub fn record(tx: &mut dyn Tx, draft: &ApprovalDraft) -> Result<Approval> {
    let run_key = runs::get_key(tx, &draft.run_id)?;
    let approval = Approval {
        source: draft.source.clone(),
        verdict: draft.verdict,
        rationale: draft.rationale.clone(),
        payload: draft.payload.clone(),
        decide_time: Some(tx.now()),
        ..new_approval(tx, run_key, &draft.run_id, draft.task_id.as_deref())?
    };
    add(tx, &approval, &system_event::approval_recorded(&approval))?;
    Ok(approval)
}

fn new_approval(tx: &mut dyn Tx, run_key: Key, run_id: &str, task_id: Option<&str>) -> Result<Approval> {
    let task_key = task_id.map(|id| tasks::get_key_in_run(tx, run_key, id)).transpose()?;
    Ok(Approval::new(tx.next_key()?, tx.new_id(), (run_key, run_id), task_key.zip(task_id), tx.now()))
}

/// Stores a new approval and appends `event` to the log of the approval's run. If the approval can expire, signals the
/// `expire_time` to the sweeper.
pub fn add(tx: &mut dyn Tx, approval: &Approval, event: &EventDraft) -> Result<()> {
    approvals::insert(tx, approval)?;
    if let (ApprovalVerdict::Pending, Some(time)) = (approval.verdict, approval.expire_time) {
        tx.signal(Signal::Due(time));
    }
    events::append(tx, approval.run_key, event).map(drop)
}

/// Decides an approval and returns the decided approval. Fails if the approval is not pending, or if its revision or
/// digest differs from the expected value.
pub fn decide(tx: &mut dyn Tx, id: &str, decision: &Decision) -> Result<Approval> {
    let next = approvals::get(tx, id)?.decided(decision, tx.now())?;
    save(tx, &next, &system_event::approval_decided(&next))?;
    Ok(next)
}

/// Cancels an approval and returns the cancelled approval. Fails if the approval is not pending.
pub fn cancel(tx: &mut dyn Tx, id: &str) -> Result<Approval> {
    let next = approvals::get(tx, id)?.cancelled("", tx.now())?;
    save(tx, &next, &system_event::approval_cancelled(&next))?;
    Ok(next)
}

/// Consumes an approval and returns the consumed approval. If the approval's `expire_time` has passed, applies the
/// approval's expiry policy first, because the result must not depend on when the sweeper runs. Fails unless the
/// approval is APPROVED, has the subject digest `digest` and was not consumed before.
pub fn consume(tx: &mut dyn Tx, id: &str, digest: &str) -> Result<Approval> {
    let mut approval = approvals::get(tx, id)?;
    if approval.is_due(tx.now()) {
        // Expiry and consumption commit in one transaction, so the approval's revision must increase by one, not by
        // two.
        approval = Approval { revision: approval.revision, ..expire_due(tx, &approval)? };
    }
    let next = approval.consumed(digest, tx.now())?;
    save(tx, &next, &system_event::approval_consumed(&next))?;
    Ok(next)
}

/// Applies the expiry policy of an approval. Returns true if the policy was applied, and false if the approval is not
/// due or was deleted with its run.
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
    let run = runs::get_by_key(tx, approval.run_key)?;
    let reason = format!("approval {} expired before anybody decided it", approval.id);
    match run::pause_loaded(tx, &run, &reason) {
        // If the run has ended or is being cancelled, no agent can claim the run's tasks, so a pause is unnecessary.
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

/// Returns the approval that a source decided last in a run, or None if the source has decided no approval of the run.
/// Fails if the run does not exist.
pub fn find_latest(tx: &mut dyn Tx, run_id: &str, source: &str) -> Result<Option<Approval>> {
    let run_key = runs::get_key(tx, run_id)?;
    approvals::find_latest_decided(tx, run_key, source)
}

/// The conditions that the approvals of a list must meet.
#[derive(Debug, Clone)]
pub struct ApprovalQuery {
    /// The id of the approvals' run. None accepts the approvals of all runs.
    pub run_id: Option<String>,
    /// The accepted verdicts as a bit mask: bit N stands for the verdict with the number N in the API.
    pub verdicts: i64,
    /// The source of the decisions. None accepts all sources.
    pub source: Option<String>,
}

/// Returns a page of the approvals that match `query`, ordered from oldest to newest. The page starts after the
/// approval with the key `after`. Fails if the run in `query` does not exist.
pub fn list(tx: &mut dyn Tx, query: &ApprovalQuery, after: i64, limit: Limit) -> Result<Page<Approval>> {
    let run_key = query.run_id.as_deref().map(|id| runs::get_key(tx, id)).transpose()?;
    let filter = approvals::Filter { run_key, verdicts: query.verdicts, source: query.source.clone() };
    approvals::list(tx, &filter, after, limit)
}
