//! Approvals: asked, decided, expired, cancelled, used (C9).

use super::run_control;
use crate::domain::Key;
use crate::domain::approval::{Approval, ApprovalVerdict, Decision, ExpiryPolicy};
use crate::domain::event::EventDraft;
use crate::domain::system_event;
use crate::error::{Error, Result};
use crate::store::{Signal, Tx, approvals, events, runs};

/// Keeps a new approval.
pub fn add(tx: &mut dyn Tx, approval: &Approval, event: &EventDraft) -> Result<()> {
    approvals::insert(tx, approval)?;
    if let (ApprovalVerdict::Pending, Some(time)) = (approval.verdict, approval.expire_time) {
        tx.signal(Signal::Due(time));
    }
    events::append(tx, approval.run_key, event).map(drop)
}

/// Decides an approval.
pub fn decide(tx: &mut dyn Tx, id: &str, decision: &Decision) -> Result<Approval> {
    let next = approvals::get(tx, id)?.decided(decision, tx.now())?;
    save(tx, &next, &system_event::approval_decided(&next))?;
    Ok(next)
}

/// Takes the question back.
pub fn cancel(tx: &mut dyn Tx, id: &str) -> Result<Approval> {
    let next = approvals::get(tx, id)?.cancelled("", tx.now())?;
    save(tx, &next, &system_event::approval_cancelled(&next))?;
    Ok(next)
}

/// Uses an approval. One that time has decided is good whether or not the sweeper got round to it.
pub fn consume(tx: &mut dyn Tx, id: &str, digest: &str) -> Result<Approval> {
    let mut approval = approvals::get(tx, id)?;
    if approval.is_due(tx.now()) {
        // Expiry and use are one change to whoever looks.
        approval = Approval { revision: approval.revision, ..expire_now(tx, &approval)? };
    }
    let next = approval.consumed(digest, tx.now())?;
    save(tx, &next, &system_event::approval_consumed(&next))?;
    Ok(next)
}

/// Does what the policy says, if the approval is still due; says whether it was.
pub fn expire(tx: &mut dyn Tx, key: Key) -> Result<bool> {
    let Some(approval) = approvals::find_by_key(tx, key)? else { return Ok(false) };
    let due = approval.is_due(tx.now());
    if due {
        expire_now(tx, &approval)?;
    }
    Ok(due)
}

fn expire_now(tx: &mut dyn Tx, approval: &Approval) -> Result<Approval> {
    let next = approval.expired(tx.now());
    save(tx, &next, &system_event::approval_expired(&next))?;
    if next.on_expiry == ExpiryPolicy::PauseRun {
        let run = runs::by_key(tx, next.run_key)?;
        match run_control::pause(tx, &run, &format!("nobody has decided the approval {} in time", next.id)) {
            // A run that has ended, or is being ended, can't be paused and needs not be.
            Ok(_) | Err(Error::RunEnded { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(next)
}

fn save(tx: &mut dyn Tx, approval: &Approval, event: &EventDraft) -> Result<()> {
    approvals::save(tx, approval)?;
    if approval.verdict != ApprovalVerdict::Pending {
        tx.signal(Signal::Decided(approval.key));
    }
    events::append(tx, approval.run_key, event).map(drop)
}
