//! The oracle of the event stream. From the committed events and the messages that a watcher got, it finds every
//! promise (E1 to E7 of the design) that was broken. It is a pure function and knows nothing of how the server works.

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

/// A broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The log itself: `seq` does not number a run's events without a gap, in the order of their positions.
    Numbered,
    /// E1: a position does not come after the previous one.
    Ordered,
    /// E2: an event was sent twice.
    Unique,
    /// E3: an event was sent, and one before it was not.
    Reliable,
    /// E4: the first message after the cursor or the snapshot skips an event.
    Resumable,
    /// E5: a bookmark, a caught_up or an end came before an event up to its position.
    Bookmarkable,
    /// E5: a position is beyond the newest committed one.
    Committed,
    /// E6: an event does not match the filter.
    Filter,
    /// E7: an event is not in the log, or differs from it.
    True,
    /// The stream does not start as the request says.
    Start,
    /// `caught_up` came twice, too early, or not at all.
    CaughtUp,
    /// An end has no cause, has the wrong status, or is followed by a message.
    End,
    /// POSITION_COMPACTED is missing although retention removed an event, or came although it removed none.
    Compacted,
    /// A refusal has no cause, or came in the middle of a stream.
    Refusal,
    /// The test itself is wrong: the parts do not resume each other.
    Harness,
}

/// One broken promise, and where.
#[derive(Debug, Clone)]
pub struct Violation {
    pub rule: Rule,
    /// Index of the part in the chain.
    pub part: usize,
    /// Index of the message in the part. The number of messages stands for the part's end.
    pub message: usize,
    /// Description of the violation, for people.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{:?}: part {}, message {}: {}", self.rule, self.part, self.message, self.text)
    }
}

/// The messages that a watcher got over one connection.
#[derive(Debug, Clone)]
pub struct Part {
    pub request: SubscribeEventsRequest,
    /// A position that was committed before the call.
    pub newest_before: i64,
    /// Everything up to this position had been removed before the call, by retention or with its run.
    pub removed_before: i64,
    pub messages: Vec<Message>,
    /// Retention had removed nothing after this position when the last message, or the refusal, came.
    pub removed_after: i64,
    pub end: PartEnd,
}

/// How a part ended.
#[derive(Debug, Clone, PartialEq)]
pub enum PartEnd {
    /// The watcher or the network ended it.
    Cut,
    /// The server ended it with the status OK.
    Finished,
    /// The server ended it with an error that has a reason.
    Refused { reason: Reason, metadata: BTreeMap<String, String> },
}

/// Returns the violations in one chain: a subscription, and each later one that resumed it from its last position.
pub fn violations(log: &Log, parts: &[Part]) -> Vec<Violation> {
    let mut found = log.violations();
    found.extend(walk::Walk::over(log, parts));
    found
}

/// Asserts that the log and a chain have no violations.
pub fn assert_no_violations(log: &Log, parts: &[Part]) {
    assert_no_violations_in(log, [parts]);
}

/// Asserts that the log and many chains have no violations.
pub fn assert_no_violations_in<'a>(log: &Log, chains: impl IntoIterator<Item = &'a [Part]>) {
    let none = |found: Vec<Violation>, of: &dyn fmt::Debug| {
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "promises were broken:\n{}\nfor {of:?}", found.join("\n"));
    };
    none(log.violations(), &"the log");
    for chain in chains {
        none(walk::Walk::over(log, chain), &chain.first().map(|part| &part.request));
    }
}

impl Part {
    /// Returns the events of the part.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.messages.iter().filter_map(|message| match message {
            Message::Event(event) => Some(event),
            _ => None,
        })
    }

    /// Returns the last position of the part. None: the next part has the same cursor.
    pub fn last_position(&self) -> Option<i64> {
        self.messages.iter().rev().find_map(position)
    }
}

/// Returns the position of a message. Of a snapshot, only the last part has one.
pub fn position(message: &Message) -> Option<i64> {
    match message {
        Message::Snapshot(part) => Some(part.position).filter(|position| *position > 0),
        Message::Event(event) => Some(event.position),
        Message::CaughtUp(caught_up) => Some(caught_up.position),
        Message::Bookmark(bookmark) => Some(bookmark.position),
        Message::End(end) => Some(end.position),
    }
}
