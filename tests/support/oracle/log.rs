//! The committed events.

use std::collections::BTreeMap;

use runhub_client::v1::Event;

use super::{Rule, Violation};

/// Every event ever committed, ascending, including those that retention or the deletion of their run has removed.
#[derive(Debug, Clone)]
pub struct Log {
    events: Vec<Event>,
    newest: i64,
    /// Position of the `run_deleted` event of each deleted run.
    deleted: BTreeMap<String, i64>,
}

impl Log {
    /// Creates a log from its events and the newest position ever assigned.
    pub fn new(mut events: Vec<Event>, newest: i64) -> Self {
        events.sort_by_key(|event| event.position);
        let newest = events.last().map_or(newest, |last| newest.max(last.position));
        let deleted = events.iter().filter(|event| is_run_deleted(event));
        let deleted = deleted.map(|event| (event.run_id.clone(), event.position)).collect();
        Self { events, newest, deleted }
    }

    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Returns the newest position. No event that is committed later has this position or a smaller one.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    pub fn at(&self, position: i64) -> Option<&Event> {
        let at = self.events.binary_search_by_key(&position, |event| event.position).ok()?;
        self.events.get(at)
    }

    /// Returns the events after one position, up to another.
    pub fn between(&self, after: i64, up_to: i64) -> &[Event] {
        let index = |position| self.events.partition_point(|event| event.position <= position);
        self.events.get(index(after)..index(up_to)).unwrap_or_default()
    }

    /// Returns the position at which a run was deleted, or None if it was not.
    pub fn deleted_at(&self, run_id: &str) -> Option<i64> {
        self.deleted.get(run_id).copied()
    }

    /// Returns true if the event was removed with its deleted run, as all of its events but `run_deleted` are.
    pub fn was_deleted_with_its_run(&self, event: &Event) -> bool {
        self.deleted.contains_key(&event.run_id) && !is_run_deleted(event)
    }

    /// Checks that `seq` has no gap. Events missing from the front of a log that was read late are not a gap.
    pub fn violations(&self) -> Vec<Violation> {
        let mut seqs: BTreeMap<&str, i64> = BTreeMap::new();
        let mut found = Vec::new();
        for event in &self.events {
            let before = seqs.insert(&event.run_id, event.seq);
            if before.is_some_and(|before| event.seq != before + 1) {
                let text = format!("in the log event {} has seq {} after {before:?}", event.position, event.seq);
                found.push(Violation { rule: Rule::Numbered, part: 0, message: 0, text });
            }
        }
        found
    }
}

/// Returns true for the server's own event about a deleted run.
pub fn is_run_deleted(event: &Event) -> bool {
    event.kind == "run_deleted" && event.source == "system"
}
