//! Checks the messages of a chain one by one.

use std::collections::{BTreeMap, BTreeSet};

use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::{EndReason, Event, RunSnapshot};

use super::log::{Log, is_run_deleted};
use super::scope::{self, Begin};
use super::{Part, Rule, Violation, position};

pub struct Walk<'a> {
    pub log: &'a Log,
    pub part: &'a Part,
    /// Index of the current part, and of the current message in it.
    at: (usize, usize),
    /// The last position received, or the cursor of the first part.
    pub cursor: Option<i64>,
    /// Everything up to this position was sent, or is reported as missing.
    sent_up_to: i64,
    sent: BTreeSet<i64>,
    /// The last seq of each run.
    seqs: BTreeMap<&'a str, i64>,
    /// Deleted runs of which an event was left out. Only `run_deleted` may follow.
    deleted_runs: BTreeSet<&'a str>,
    pub progress: Progress,
    found: Vec<Violation>,
}

/// The progress of a part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Its start is known.
    has_start: bool,
    /// It has a cursor, and no message has come yet.
    is_resuming: bool,
    pub caught_up: bool,
    pub end: Option<EndReason>,
}

impl<'a> Walk<'a> {
    pub fn over(log: &'a Log, parts: &'a [Part]) -> Vec<Violation> {
        let Some(first) = parts.first() else { return Vec::new() };
        let cursor = first.request.after_position;
        let mut walk = Self {
            log,
            part: first,
            at: (0, 0),
            cursor,
            sent_up_to: cursor.unwrap_or(0),
            sent: BTreeSet::new(),
            seqs: BTreeMap::new(),
            deleted_runs: BTreeSet::new(),
            progress: Progress::default(),
            found: Vec::new(),
        };
        for (at, part) in parts.iter().enumerate() {
            // A cursor is valid for one scope only, so parts that do not resume each other prove nothing.
            if part.request.after_position != walk.cursor || !scope::have_equal_filters(&first.request, &part.request) {
                walk.at = (at, 0);
                walk.report(Rule::Harness, format!("the part does not resume from {:?}", walk.cursor));
                break;
            }
            walk.check_part(at, part);
        }
        walk.found
    }

    pub fn report(&mut self, rule: Rule, text: impl Into<String>) {
        let (part, message) = self.at;
        self.found.push(Violation { rule, part, message, text: text.into() });
    }

    fn check_part(&mut self, at: usize, part: &'a Part) {
        let has_cursor = part.request.after_position.is_some();
        self.part = part;
        self.progress = Progress { has_start: has_cursor, is_resuming: has_cursor, ..Progress::default() };
        for (message_at, message) in part.messages.iter().enumerate() {
            self.at = (at, message_at);
            self.check_message(message);
            self.cursor = position(message).or(self.cursor);
        }
        self.at = (at, part.messages.len());
        self.check_silent_skip();
        self.check_status();
    }

    fn check_message(&mut self, message: &'a Message) {
        if let Some(reason) = self.progress.end {
            self.report(Rule::End, format!("{message:?} after the end {reason:?}"));
        }
        if position(message).is_some_and(|position| position > self.log.newest()) {
            self.report(Rule::Committed, format!("{message:?}, and {} is the newest", self.log.newest()));
        }
        if let Message::Snapshot(part) = message {
            return self.snapshot(part);
        }
        if !self.progress.has_start {
            self.set_start(message);
        }
        match message {
            Message::Event(event) => self.event(message, event),
            Message::CaughtUp(_) => {
                self.check_position(message);
                self.caught_up();
            }
            Message::End(end) => {
                self.check_position(message);
                self.end(end.reason(), end.position);
            }
            Message::Bookmark(_) | Message::Snapshot(_) => self.check_position(message),
        }
        self.progress.has_start = true;
        self.progress.is_resuming = false;
    }

    /// Takes the start of a part without a cursor from its first message.
    fn set_start(&mut self, first: &Message) {
        let Some(position) = position(first) else { return };
        match scope::begin(&self.part.request) {
            Begin::Beginning | Begin::After(_) => return,
            Begin::Snapshot => self.report(Rule::Start, format!("{first:?} before the end of the snapshot")),
            Begin::Now => {
                let before = self.part.newest_before;
                if !matches!(first, Message::CaughtUp(_) | Message::End(_)) || position < before {
                    self.report(Rule::Start, format!("FROM_NOW was asked after {before}, and {first:?} came first"));
                }
            }
        }
        self.sent_up_to = if matches!(first, Message::Event(_)) { position - 1 } else { position };
    }

    fn snapshot(&mut self, snapshot: &RunSnapshot) {
        let is_first = self.at.1 == 0;
        if scope::begin(&self.part.request) != Begin::Snapshot || self.progress.has_start {
            return self.report(Rule::Start, "a part of a snapshot where none is due");
        }
        if snapshot.run.is_some() != is_first {
            self.report(Rule::Start, "the first part of a snapshot has the run, and only the first");
        }
        if snapshot.position > 0 {
            if snapshot.position < self.part.newest_before {
                let text = format!("a snapshot at {}, asked for after {}", snapshot.position, self.part.newest_before);
                self.report(Rule::Start, text);
            }
            self.sent_up_to = snapshot.position;
            self.progress.has_start = true;
            self.progress.is_resuming = true;
        }
    }

    fn event(&mut self, message: &Message, event: &'a Event) {
        let at = event.position;
        if !self.sent.insert(at) {
            self.report(Rule::Unique, format!("event {at} was sent before"));
        } else if at <= self.sent_up_to {
            self.report(Rule::Ordered, format!("event {at} after {}", self.sent_up_to));
        } else {
            self.require_sent(message, at - 1);
            self.sent_up_to = at;
            self.check_seq(event);
        }
        self.check_event(event);
    }

    /// Checks what does not depend on earlier messages.
    fn check_event(&mut self, event: &'a Event) {
        let at = event.position;
        match self.log.at(at) {
            None => self.report(Rule::True, format!("event {at} is not in the log")),
            Some(logged) if logged != event => {
                self.report(Rule::True, format!("event {at} is {event:?}, and in the log {logged:?}"));
            }
            Some(_) => {}
        }
        if !scope::matches(&self.part.request, event) {
            self.report(Rule::Filter, format!("event {at} was not asked for: {event:?}"));
        }
        if at <= self.part.removed_before {
            self.report(Rule::Compacted, format!("event {at} was removed before the call"));
        }
        if self.deleted_runs.contains(event.run_id.as_str()) && !is_run_deleted(event) {
            self.report(Rule::Reliable, format!("event {at} is of a deleted run, and one before it was left out"));
        }
    }

    /// Checks that seq ascends with the position.
    fn check_seq(&mut self, event: &'a Event) {
        let before = self.seqs.insert(&event.run_id, event.seq);
        if before.is_some_and(|before| before >= event.seq) {
            self.report(Rule::Ordered, format!("event {} has seq {} after {before:?}", event.position, event.seq));
        }
    }

    /// Checks a message that has a position and no event.
    fn check_position(&mut self, message: &Message) {
        let Some(at) = position(message) else { return };
        if at < self.sent_up_to {
            return self.report(Rule::Ordered, format!("{message:?} after {}", self.sent_up_to));
        }
        self.require_sent(message, at);
        self.sent_up_to = at;
    }

    /// Checks that every matching event up to a position was sent before this message (E3, E4 and E5).
    fn require_sent(&mut self, message: &Message, up_to: i64) {
        let (missing, deleted_runs) = self.missing_events(up_to, is_deletion(message));
        self.deleted_runs.extend(deleted_runs);
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else { return };
        let rule = match message {
            _ if self.progress.is_resuming => Rule::Resumable,
            Message::Event(_) => Rule::Reliable,
            _ => Rule::Bookmarkable,
        };
        self.report(rule, format!("{} events ({first} to {last}) are missing before {message:?}", missing.len()));
    }

    /// Returns the matching events after `sent_up_to` that were not sent, and the deleted runs whose events need not come.
    fn missing_events(&self, up_to: i64, is_deletion: bool) -> (Vec<i64>, BTreeSet<&'a str>) {
        let mut missing = Vec::new();
        let mut deleted_runs = BTreeSet::new();
        // FROM_BEGINNING starts at the oldest event that was kept at the time.
        let kept_after =
            if self.progress.has_start { self.sent_up_to } else { self.part.removed_after.max(self.sent_up_to) };
        let request = &self.part.request;
        for event in self.log.between(kept_after, up_to).iter().filter(|event| scope::matches(request, event)) {
            if scope::covers_all_runs(request) {
                if self.log.was_deleted_with_its_run(event) {
                    deleted_runs.insert(event.run_id.as_str());
                    continue;
                }
            } else if is_run_deleted(event) || (is_deletion && self.log.was_deleted_with_its_run(event)) {
                // A watcher of the run itself gets the `end` instead.
                continue;
            }
            missing.push(event.position);
        }
        (missing, deleted_runs)
    }

    fn caught_up(&mut self) {
        if std::mem::replace(&mut self.progress.caught_up, true) {
            self.report(Rule::CaughtUp, "caught_up a second time");
        }
        let before = self.part.newest_before;
        if let Some(first) = self.missing_events(before, false).0.first() {
            self.report(Rule::CaughtUp, format!("caught_up, and event {first} of before the call was not sent"));
        }
    }
}

fn is_deletion(message: &Message) -> bool {
    matches!(message, Message::End(end) if end.reason() == EndReason::RunDeleted)
}
