//! This module encodes the notifications that servers send each other. PostgreSQL delivers a notification when the
//! transaction that has sent it is committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::Key;
use crate::domain::time::Timestamp;
use crate::store::Signal;

/// Maximum size of a notification, in bytes. PostgreSQL refuses 8,000 bytes and more.
const MAX_BYTES: usize = 7_900;

/// The content of a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Payload {
    /// The id of the server that has committed the transaction.
    #[serde(rename = "s")]
    pub server_id: String,
    /// The newest position after the transaction.
    #[serde(rename = "p")]
    pub position: i64,
    /// The signals of the transaction. None means that the signals are too large for a notification.
    #[serde(rename = "g")]
    signals: Option<Vec<SentSignal>>,
}

/// A signal in the form in which it is sent. `Signal` documents the variants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum SentSignal {
    #[serde(rename = "r")]
    Ready(Key, usize),
    #[serde(rename = "f")]
    PathsFreed(String),
    #[serde(rename = "e")]
    RunEnded(Key),
    #[serde(rename = "a")]
    Answered(String, String),
    #[serde(rename = "d")]
    Decided(Key),
    #[serde(rename = "t")]
    Due(i64),
    #[serde(rename = "x")]
    Anything,
}

impl Payload {
    /// Returns the notification of a transaction as text.
    pub fn encode(server_id: &str, position: i64, signals: &[Signal]) -> String {
        let mut payload = Self { server_id: server_id.to_owned(), position, signals: Some(merge(signals)) };
        let text = payload.to_text();
        if text.len() <= MAX_BYTES {
            return text;
        }
        payload.signals = None;
        payload.to_text()
    }

    /// Returns the notification with the text `text`, or None if another program has sent it.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn to_text(&self) -> String {
        // A structure of numbers and texts always has a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the signals of the transaction.
    pub fn into_signals(self) -> Vec<Signal> {
        let Some(signals) = self.signals else { return vec![Signal::Anything] };
        signals.into_iter().map(Signal::from).collect()
    }
}

/// Returns the signals with one entry for each run that has ready tasks, and with only the earliest due time.
fn merge(signals: &[Signal]) -> Vec<SentSignal> {
    let mut ready = BTreeMap::new();
    let mut due = None;
    let mut merged = Vec::new();
    for signal in signals {
        match signal {
            Signal::Ready { run_key, tasks } => *ready.entry(*run_key).or_insert(0) += tasks,
            Signal::Due(time) => due = Some(due.map_or(*time, |earliest: Timestamp| earliest.min(*time))),
            Signal::PathsFreed { repo_path } => merged.push(SentSignal::PathsFreed(repo_path.clone())),
            Signal::RunEnded(key) => merged.push(SentSignal::RunEnded(*key)),
            Signal::Answered { rpc, request_id } => {
                merged.push(SentSignal::Answered(rpc.clone().into_owned(), request_id.clone()));
            }
            Signal::Decided(key) => merged.push(SentSignal::Decided(*key)),
            Signal::Anything => merged.push(SentSignal::Anything),
        }
    }
    merged.sort();
    merged.dedup();
    merged.extend(ready.into_iter().map(|(run_key, tasks)| SentSignal::Ready(run_key, tasks)));
    merged.extend(due.map(|time| SentSignal::Due(time.micros())));
    merged
}

impl From<SentSignal> for Signal {
    fn from(signal: SentSignal) -> Self {
        match signal {
            SentSignal::Ready(run_key, tasks) => Self::Ready { run_key, tasks },
            SentSignal::PathsFreed(repo_path) => Self::PathsFreed { repo_path },
            SentSignal::RunEnded(key) => Self::RunEnded(key),
            SentSignal::Answered(rpc, request_id) => Self::Answered { rpc: rpc.into(), request_id },
            SentSignal::Decided(key) => Self::Decided(key),
            SentSignal::Due(micros) => Self::Due(Timestamp::from_micros(micros)),
            SentSignal::Anything => Self::Anything,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_merged_and_survive_the_encoding() {
        let signals = [
            Signal::Due(Timestamp::from_micros(9)),
            Signal::Ready { run_key: 1, tasks: 2 },
            Signal::Decided(4),
            Signal::Ready { run_key: 1, tasks: 3 },
            Signal::Due(Timestamp::from_micros(7)),
            Signal::Decided(4),
            Signal::Answered { rpc: "ClaimTask".into(), request_id: "\"é".into() },
        ];
        let payload = Payload::decode(&Payload::encode("server", 12, &signals)).unwrap();
        assert_eq!((payload.server_id.as_str(), payload.position), ("server", 12));
        let expected = [
            Signal::Answered { rpc: "ClaimTask".into(), request_id: "\"é".into() },
            Signal::Decided(4),
            Signal::Ready { run_key: 1, tasks: 5 },
            Signal::Due(Timestamp::from_micros(7)),
        ];
        assert_eq!(payload.into_signals(), expected);
    }

    #[test]
    fn signals_that_are_too_large_become_one_that_wakes_everybody() {
        let signals: Vec<_> =
            (0..10).map(|at| Signal::PathsFreed { repo_path: at.to_string().repeat(1_000) }).collect();
        let text = Payload::encode("server", 12, &signals);
        assert!(text.len() < MAX_BYTES);
        assert_eq!(Payload::decode(&text).unwrap().into_signals(), [Signal::Anything]);
    }

    #[test]
    fn notification_of_another_program_is_ignored() {
        assert_eq!(Payload::decode("hello"), None);
    }
}
