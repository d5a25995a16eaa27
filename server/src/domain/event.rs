//! This module defines events, which are the entries of the log, and the filters that readers of the log pass.

use super::Key;
use super::json::Json;
use super::time::Timestamp;

/// The source of the server's own events. The server refuses calls that use this source.
pub const SYSTEM: &str = "system";

/// The kind of the event that the server appends for an update of a run. An update can end the run.
pub const RUN_UPDATED: &str = "run_updated";
/// The kind of the event that the server appends at the end of the cancellation of a run.
pub const RUN_CANCELLED: &str = "run_cancelled";
/// The kind of the event that remains in the log after a run is deleted.
pub const RUN_DELETED: &str = "run_deleted";
/// The kind of the event that records that the server has begun to delete a large run.
pub const RUN_DELETE_REQUESTED: &str = "run_delete_requested";

/// Represents one event of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct Event {
    pub position: i64,
    pub seq: i64,
    pub run_id: String,
    pub task_id: Option<String>,
    pub source: String,
    pub kind: String,
    pub message: String,
    pub payload: Json,
    pub create_time: Timestamp,
}

impl Event {
    /// Returns whether an event with the passed source and kind can record the end of a run.
    pub fn may_end_run(source: &str, kind: &str) -> bool {
        source == SYSTEM && matches!(kind, RUN_UPDATED | RUN_CANCELLED)
    }

    /// Returns whether an event with the passed source and kind records the deletion of a run, or the start of the
    /// deletion. Watchers receive no earlier event of the run after this event.
    pub fn deletes_run(source: &str, kind: &str) -> bool {
        source == SYSTEM && (kind == RUN_DELETED || kind == RUN_DELETE_REQUESTED)
    }
}

/// Contains the fields of an event to append to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct EventDraft {
    pub task_key: Option<Key>,
    pub source: String,
    pub kind: String,
    pub message: String,
    pub payload: Json,
}

/// Selects the events that a reader receives. An empty filter field accepts all events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct EventFilter {
    /// The accepted kinds. An entry is either a whole kind, or a prefix of kinds followed by `*`. If the list is empty,
    /// the filter accepts all kinds.
    pub kinds: Vec<String>,
    pub sources: Vec<String>,
    pub task_id: Option<String>,
}

impl EventFilter {
    /// Returns whether the filter accepts an event with the passed kind, source and task id.
    pub fn accepts(&self, kind: &str, source: &str, task_id: Option<&str>) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.iter().any(|pattern| kind_matches(pattern, kind));
        let source = self.sources.is_empty() || self.sources.iter().any(|one| one == source);
        kind && source && (self.task_id.is_none() || self.task_id.as_deref() == task_id)
    }
}

fn kind_matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_match_exactly_or_by_prefix() {
        assert!(kind_matches("task_claimed", "task_claimed"));
        assert!(!kind_matches("task", "task_claimed"));
        assert!(kind_matches("task*", "task_claimed"));
        assert!(kind_matches("*", ""));
        // Only a `*` at the end of a pattern is a wildcard.
        assert!(!kind_matches("t*k", "task"));
    }
}
