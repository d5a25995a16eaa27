//! Goes through the messages of a chain, one by one.

use std::collections::{BTreeMap, BTreeSet};

use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::{EndReason, Event, RunSnapshot};

use super::log::{Log, is_run_deleted};
use super::scope::{self, Begin};
use super::{Part, Rule, Violation, position};

pub struct Walk<'a> {
    pub log: &'a Log,
    pub part: &'a Part,
    /// The part and the message it is at.
    at: (usize, usize),
    /// The last position received, or else what the first part was asked to begin after.
    pub cursor: Option<i64>,
    /// Everything up to here was sent, or is reported as missing.
    floor: i64,
    sent: BTreeSet<i64>,
    /// The last seq of each run.
    seqs: BTreeMap<&'a str, i64>,
    /// Deleted runs of which something was left out: nothing more comes of them but `run_deleted`.
    gone: BTreeSet<&'a str>,
    pub progress: Progress,
    found: Vec<Violation>,
}

/// How far a part has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// It is clear where it began.
    settled: bool,
    /// It has a cursor, and nothing has come after it yet.
    fresh: bool,
    pub caught_up: bool,
    pub end: Option<EndReason>,
}

impl<'a> Walk<'a> {
    pub fn over(log: &'a Log, parts: &'a [Part]) -> Vec<Violation> {
        let Some(first) = parts.first() else { return Vec::new() };
        let cursor = first.request.after_position;
        let (sent, seqs, gone) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let (progress, floor) = (Progress::default(), cursor.unwrap_or(0));
        let mut walk =
            Self { log, part: first, at: (0, 0), cursor, floor, sent, seqs, gone, progress, found: Vec::new() };
        for (at, part) in parts.iter().enumerate() {
            // Cursors are good for one scope: a chain that is none proves nothing.
            if part.request.after_position != walk.cursor || !scope::ask_for_the_same(&first.request, &part.request) {
                walk.at = (at, 0);
                walk.report(Rule::Harness, format!("resumed from elsewhere: not from {:?}", walk.cursor));
                break;
            }
            walk.through(at, part);
        }
        walk.found
    }

    pub fn report(&mut self, rule: Rule, text: impl Into<String>) {
        let (part, message) = self.at;
        self.found.push(Violation { rule, part, message, text: text.into() });
    }

    fn through(&mut self, at: usize, part: &'a Part) {
        let has_cursor = part.request.after_position.is_some();
        self.part = part;
        self.progress = Progress { settled: has_cursor, fresh: has_cursor, ..Progress::default() };
        for (message_at, message) in part.messages.iter().enumerate() {
            self.at = (at, message_at);
            self.message(message);
            self.cursor = position(message).or(self.cursor);
        }
        self.at = (at, part.messages.len());
        self.look_for_a_silent_skip();
        self.finish();
    }

    fn message(&mut self, message: &'a Message) {
        if let Some(reason) = self.progress.end {
            self.report(Rule::End, format!("{message:?} after the end {reason:?}"));
        }
        if position(message).is_some_and(|position| position > self.log.newest()) {
            self.report(Rule::Committed, format!("{message:?}, and {} is the newest", self.log.newest()));
        }
        if let Message::Snapshot(part) = message {
            return self.snapshot(part);
        }
        if !self.progress.settled {
            self.settle(message);
        }
        match message {
            Message::Event(event) => self.event(message, event),
            Message::CaughtUp(_) => {
                self.mark(message);
                self.caught_up();
            }
            Message::End(end) => {
                self.mark(message);
                self.end(end.reason(), end.position);
            }
            Message::Bookmark(_) | Message::Snapshot(_) => self.mark(message),
        }
        (self.progress.settled, self.progress.fresh) = (true, false);
    }

    /// The first message of a part without a cursor says where it begins.
    fn settle(&mut self, first: &Message) {
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
        self.floor = if matches!(first, Message::Event(_)) { position - 1 } else { position };
    }

    fn snapshot(&mut self, snapshot: &RunSnapshot) {
        let is_first = self.at.1 == 0;
        if scope::begin(&self.part.request) != Begin::Snapshot || self.progress.settled {
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
            self.floor = snapshot.position;
            (self.progress.settled, self.progress.fresh) = (true, true);
        }
    }

    fn event(&mut self, message: &Message, event: &'a Event) {
        let at = event.position;
        if !self.sent.insert(at) {
            self.report(Rule::Unique, format!("event {at} was sent before"));
        } else if at <= self.floor {
            self.report(Rule::Ordered, format!("event {at} after {}", self.floor));
        } else {
            self.account(message, at - 1);
            self.floor = at;
            self.look_at_seq(event);
        }
        self.look_at_event(event);
    }

    /// What is wrong with it wherever it stands.
    fn look_at_event(&mut self, event: &'a Event) {
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
        if self.gone.contains(event.run_id.as_str()) && !is_run_deleted(event) {
            self.report(Rule::Reliable, format!("event {at} is of a deleted run, and one before it was left out"));
        }
    }

    /// It ascends with the position.
    fn look_at_seq(&mut self, event: &'a Event) {
        let before = self.seqs.insert(&event.run_id, event.seq);
        if before.is_some_and(|before| before >= event.seq) {
            self.report(Rule::Ordered, format!("event {} has seq {} after {before:?}", event.position, event.seq));
        }
    }

    /// A message that is only a position.
    fn mark(&mut self, message: &Message) {
        let Some(at) = position(message) else { return };
        if at < self.floor {
            return self.report(Rule::Ordered, format!("{message:?} after {}", self.floor));
        }
        self.account(message, at);
        self.floor = at;
    }

    /// Everything up to a position must have been sent before this message. That is E3, E4 and E5.
    fn account(&mut self, message: &Message, up_to: i64) {
        let (missing, gone) = self.not_sent(up_to, is_deletion(message));
        self.gone.extend(gone);
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else { return };
        let rule = match message {
            _ if self.progress.fresh => Rule::Resumable,
            Message::Event(_) => Rule::Reliable,
            _ => Rule::Bookmarkable,
        };
        self.report(rule, format!("{} events ({first} to {last}) are missing before {message:?}", missing.len()));
    }

    /// Which matching events after the floor are missing, and the runs of those that need not come.
    fn not_sent(&self, up_to: i64, is_deletion: bool) -> (Vec<i64>, BTreeSet<&'a str>) {
        let (mut missing, mut gone) = (Vec::new(), BTreeSet::new());
        // FROM_BEGINNING begins at the oldest event kept, wherever that is by now.
        let kept_after = if self.progress.settled { self.floor } else { self.part.removed_after.max(self.floor) };
        let request = &self.part.request;
        for event in self.log.between(kept_after, up_to).iter().filter(|event| scope::matches(request, event)) {
            if scope::is_of_all_runs(request) {
                if self.log.went_with_its_run(event) {
                    gone.insert(event.run_id.as_str());
                    continue;
                }
            } else if is_run_deleted(event) || (is_deletion && self.log.went_with_its_run(event)) {
                // A watcher of the run itself has the `end` in their place.
                continue;
            }
            missing.push(event.position);
        }
        (missing, gone)
    }

    fn caught_up(&mut self) {
        if std::mem::replace(&mut self.progress.caught_up, true) {
            self.report(Rule::CaughtUp, "caught_up a second time");
        }
        let before = self.part.newest_before;
        if let Some(first) = self.not_sent(before, false).0.first() {
            self.report(Rule::CaughtUp, format!("caught_up, and event {first} of before the call was not sent"));
        }
    }
}

fn is_deletion(message: &Message) -> bool {
    matches!(message, Message::End(end) if end.reason() == EndReason::RunDeleted)
}
