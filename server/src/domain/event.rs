//! Events: the entries of the log, and the filters of its readers.

use super::Key;
use super::json::Json;
use super::time::Timestamp;

/// The source of the server's own events. Callers can't use it.
pub const SYSTEM: &str = "system";

/// The kind of the event of an UpdateRun call, which may have ended the run.
pub const RUN_UPDATED: &str = "run_updated";
/// The kind of the event that ends a cancelled run.
pub const RUN_CANCELLED: &str = "run_cancelled";
/// The kind of the event that remains of a deleted run.
pub const RUN_DELETED: &str = "run_deleted";

/// One event of a run.
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
    /// Returns whether the run may have ended with an event of this source and kind.
    pub fn may_end_run(source: &str, kind: &str) -> bool {
        source == SYSTEM && matches!(kind, RUN_UPDATED | RUN_CANCELLED)
    }

    /// Returns whether the run was deleted with an event of this source and kind.
    pub fn deletes_run(source: &str, kind: &str) -> bool {
        source == SYSTEM && kind == RUN_DELETED
    }
}

/// An event to append.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct EventDraft {
    pub task_key: Option<Key>,
    pub source: String,
    pub kind: String,
    pub message: String,
    pub payload: Json,
}

/// The events that a reader receives. An empty field accepts all events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct EventFilter {
    /// Kinds, or prefixes of kinds followed by `*`.
    pub kinds: Vec<String>,
    pub sources: Vec<String>,
    pub task_id: Option<String>,
}

impl EventFilter {
    /// Returns whether the filter accepts an event of this kind and source about this task.
    pub fn passes(&self, kind: &str, source: &str, task_id: Option<&str>) -> bool {
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
    fn kinds_match_whole_or_by_prefix() {
        assert!(kind_matches("task_claimed", "task_claimed"));
        assert!(!kind_matches("task", "task_claimed"));
        assert!(kind_matches("task*", "task_claimed"));
        assert!(kind_matches("*", ""));
        // A `*` that is not the last character has no special meaning.
        assert!(!kind_matches("t*k", "task"));
    }
}
