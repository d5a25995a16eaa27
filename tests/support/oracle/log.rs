//! What was committed.

use std::collections::BTreeMap;

use runhub_client::v1::Event;

use super::{Rule, Violation};

/// Every event ever, ascending: also those that retention or the deletion of their run has removed since.
#[derive(Debug, Clone)]
pub struct Log {
    events: Vec<Event>,
    newest: i64,
    /// Where each deleted run has its `run_deleted`.
    deleted: BTreeMap<String, i64>,
}

impl Log {
    /// From its events and the newest position ever given.
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

    /// No event that is committed later has this position or one before it.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    pub fn at(&self, position: i64) -> Option<&Event> {
        let at = self.events.binary_search_by_key(&position, |event| event.position).ok()?;
        self.events.get(at)
    }

    /// The events after one position, up to another.
    pub fn between(&self, after: i64, up_to: i64) -> &[Event] {
        let index = |position| self.events.partition_point(|event| event.position <= position);
        self.events.get(index(after)..index(up_to)).unwrap_or_default()
    }

    /// Where a run was deleted.
    pub fn deleted_at(&self, run_id: &str) -> Option<i64> {
        self.deleted.get(run_id).copied()
    }

    /// An event that its run took along when it was deleted: all but `run_deleted`.
    pub fn went_with_its_run(&self, event: &Event) -> bool {
        self.deleted.contains_key(&event.run_id) && !is_run_deleted(event)
    }

    /// `seq` has no gap; what is missing from the front of a log that was read late is none.
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

/// The server's own word that a run is gone.
pub fn is_run_deleted(event: &Event) -> bool {
    event.kind == "run_deleted" && event.source == "system"
}
