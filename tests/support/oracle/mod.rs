//! The oracle of the event stream: from what was committed and what a watcher was sent, every promise (E1 to E7 of the
//! design) that was not kept. It is a pure function and knows nothing of how the server works.

mod ends;
mod log;
mod scope;
mod walk;

use std::collections::BTreeMap;
use std::fmt;

use runhub_client::Reason;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::{Event, SubscribeEventsRequest};

pub use log::Log;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The log itself: `seq` numbers a run's events without a gap, in the order of their positions.
    Numbered,
    /// E1: a position that is not after what came before.
    Ordered,
    /// E2: an event that was sent before.
    Unique,
    /// E3: an event was sent, and one before it was not.
    Reliable,
    /// E4: what follows the cursor, or the snapshot, was not sent first.
    Resumable,
    /// E5: a bookmark, a caught_up or an end, and an event up to its position was not sent.
    Bookmarkable,
    /// E5: a position beyond what is committed.
    Committed,
    /// E6: an event that was not asked for.
    Filter,
    /// E7: an event that is not in the log, or not so.
    True,
    /// It does not begin as the request says.
    Start,
    /// `caught_up` twice, too early, or not at all.
    CaughtUp,
    /// An end without its cause, without its status, or with something after it.
    End,
    /// Something that retention had removed, and no POSITION_COMPACTED; or the other way round.
    Compacted,
    /// A refusal without its cause, or in the middle of a stream.
    Refusal,
    /// The test's own fault: the parts do not resume each other.
    Harness,
}

/// One promise that was not kept, and where.
#[derive(Debug, Clone)]
pub struct Violation {
    pub rule: Rule,
    /// Which part of the chain.
    pub part: usize,
    /// Which message of the part; as many as there are messages: its end.
    pub message: usize,
    /// What is wrong, for people.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{:?}: part {}, message {}: {}", self.rule, self.part, self.message, self.text)
    }
}

/// One connection's worth of a stream, as its watcher had it.
#[derive(Debug, Clone)]
pub struct Part {
    pub request: SubscribeEventsRequest,
    /// A position that was committed before the call.
    pub newest_before: i64,
    /// Everything up to here was gone from the log before the call: by retention, or with its run.
    pub removed_before: i64,
    pub messages: Vec<Message>,
    /// Retention had removed nothing after this when the last message, or the refusal, had come.
    pub removed_after: i64,
    pub end: PartEnd,
}

/// How a part ended.
#[derive(Debug, Clone, PartialEq)]
pub enum PartEnd {
    /// By the watcher or the network.
    Cut,
    /// With the status OK.
    Finished,
    /// With a status that has a reason.
    Refused { reason: Reason, metadata: BTreeMap<String, String> },
}

/// Everything that is broken in one chain: a subscription, and every one that resumed it from its last position.
pub fn violations(log: &Log, parts: &[Part]) -> Vec<Violation> {
    let mut found = log.violations();
    found.extend(walk::Walk::over(log, parts));
    found
}

/// The same as a test wants it.
pub fn assert_kept(log: &Log, parts: &[Part]) {
    assert_all_kept(log, [parts]);
}

/// The same of many chains.
pub fn assert_all_kept<'a>(log: &Log, chains: impl IntoIterator<Item = &'a [Part]>) {
    let none = |found: Vec<Violation>, of: &dyn fmt::Debug| {
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "promises were broken:\n{}\nto {of:?}", found.join("\n"));
    };
    none(log.violations(), &"all");
    for chain in chains {
        none(walk::Walk::over(log, chain), &chain.first().map(|part| &part.request));
    }
}

impl Part {
    /// The events it brought.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.messages.iter().filter_map(|message| match message {
            Message::Event(event) => Some(event),
            _ => None,
        })
    }

    /// The last position it brought; None: the next one has the cursor that this one had.
    pub fn last_position(&self) -> Option<i64> {
        self.messages.iter().rev().find_map(position)
    }
}

/// The position of a message: none in a snapshot's part but the last.
pub fn position(message: &Message) -> Option<i64> {
    match message {
        Message::Snapshot(part) => Some(part.position).filter(|position| *position > 0),
        Message::Event(event) => Some(event.position),
        Message::CaughtUp(caught_up) => Some(caught_up.position),
        Message::Bookmark(bookmark) => Some(bookmark.position),
        Message::End(end) => Some(end.position),
    }
}
