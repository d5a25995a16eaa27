//! Appending the events that callers bring.

use std::borrow::Cow;

use crate::domain::event::EventDraft;
use crate::error::Result;
use crate::store::events::{self, Appended};
use crate::store::{Tx, runs, tasks};

/// An event as a caller brings it.
#[derive(Debug, Clone)]
pub struct CallerEvent {
    /// The id of the task that the event is about.
    pub task_id: Option<String>,
    /// The event, without its task.
    pub draft: EventDraft,
}

/// Appends events to the log of a run. Fails if an event is about a task of another run.
pub fn append(tx: &mut dyn Tx, run_id: &str, events: &[CallerEvent]) -> Result<Appended> {
    let run_key = runs::key(tx, run_id)?;
    let now = tx.now();
    // The body may run again, so it keeps the drafts. Most name no task and need no copy.
    let mut resolved = Vec::with_capacity(events.len());
    for CallerEvent { task_id, draft } in events {
        resolved.push(match task_id {
            None => Cow::Borrowed(draft),
            Some(id) => {
                let task_key = Some(tasks::key_in_run(tx, run_key, id)?);
                Cow::Owned(EventDraft { task_key, ..draft.clone() })
            }
        });
    }
    events::append_at(tx, run_key, resolved.iter().map(|draft| (draft.as_ref(), now)))
}
