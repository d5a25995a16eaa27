//! Events: what happened, and which of it a reader asked for.

use super::Key;
use super::json::Json;
use super::time::Timestamp;

/// The source of the server's own events; no caller can use it.
pub const SYSTEM: &str = "system";

/// The kinds of those after which a run may have ended.
pub const RUN_UPDATED: &str = "run_updated";
#[allow(missing_docs)]
pub const RUN_CANCELLED: &str = "run_cancelled";
/// The kind of a run's last event.
pub const RUN_DELETED: &str = "run_deleted";

/// One thing that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto has them.
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
    /// After an event of this source and kind its run may have ended.
    pub fn may_end_run(source: &str, kind: &str) -> bool {
        source == SYSTEM && matches!(kind, RUN_UPDATED | RUN_CANCELLED)
    }

    /// An event of this source and kind is all that is left of its run.
    pub fn deletes_run(source: &str, kind: &str) -> bool {
        source == SYSTEM && kind == RUN_DELETED
    }
}

/// An event to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct EventDraft {
    pub task_key: Option<Key>,
    pub source: String,
    pub kind: String,
    pub message: String,
    pub payload: Json,
}

/// Which events a reader asked for; what is empty lets all pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct EventFilter {
    /// One that ends in `*` matches all kinds that begin so.
    pub kinds: Vec<String>,
    pub sources: Vec<String>,
    pub task_id: Option<String>,
}

impl EventFilter {
    /// An event of this kind and source, about this task, is one of those asked for.
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
        // A star elsewhere is a star.
        assert!(!kind_matches("t*k", "task"));
    }
}
