//! This module appends the events that callers send.

use std::borrow::Cow;

use crate::domain::event::EventDraft;
use crate::error::Result;
use crate::store::events::{self, AppendResult};
use crate::store::{Tx, runs, tasks};

/// An event that a caller appends to the log of a run.
#[derive(Debug, Clone)]
pub struct CallerEvent {
    /// The id of the task that the event is about. If the event is about no task, the value is None.
    pub task_id: Option<String>,
    /// The event without its task key. `append` sets the task key from `task_id`.
    pub draft: EventDraft,
}

/// Appends events to the log of a run. Returns the first and the last sequence number of the appended events, and the
/// position of the last appended event. Fails if the run does not exist, or if an event is about a task of another run.
pub fn append(tx: &mut dyn Tx, run_id: &str, events: &[CallerEvent]) -> Result<AppendResult> {
    let run_key = runs::get_key(tx, run_id)?;
    let now = tx.now();
    // Borrow the drafts, because the store may run the transaction body again. Copy only a draft whose
    // task key must be set.
    let mut resolved = Vec::with_capacity(events.len());
    for CallerEvent { task_id, draft } in events {
        resolved.push(match task_id {
            None => Cow::Borrowed(draft),
            Some(id) => {
                let task_key = Some(tasks::get_key_in_run(tx, run_key, id)?);
                Cow::Owned(EventDraft { task_key, ..draft.clone() })
            }
        });
    }
    events::append_with_times(tx, run_key, resolved.iter().map(|draft| (draft.as_ref(), now)))
}
