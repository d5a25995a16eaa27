//! Checks that a database has everything that its clients and watchers were told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use runhub_client::Client;
use runhub_client::v1::*;

use super::load::{Answer, Call, Request};
use crate::support::calls::*;
use crate::support::channel;
use crate::support::oracle::{Log, assert_no_violations, position};
use crate::support::record::{Recorder, committed_log};

/// The changes that the answers to the clients have acknowledged.
#[derive(Debug, Default)]
pub struct Told {
    /// The seq and the kind of each appended event, by its position.
    pub events: BTreeMap<i64, (i64, String)>,
    completed: Vec<String>,
    runs: Vec<String>,
}

impl Told {
    pub fn add(&mut self, calls: &[Call]) {
        for call in calls {
            match (&call.request, &call.answer) {
                (Request::Append(request), Some(Answer::Appended(answer))) => {
                    let kind = request.events[0].kind.clone();
                    self.events.insert(answer.last_position, (answer.first_seq, kind));
                }
                (_, Some(Answer::Created(run))) => self.runs.push(run.id.clone()),
                (_, Some(Answer::Completed(task))) => self.completed.push(task.id.clone()),
                _ => {}
            }
        }
    }
}

/// Returns the positions of the acknowledged events that the log does not have.
pub fn lost_events(log: &Log, told: &Told) -> Vec<i64> {
    let is_there = |position: i64, seq: i64, kind: &str| {
        log.at(position).is_some_and(|event| event.seq == seq && event.kind == kind)
    };
    let lost = told.events.iter().filter(|(position, (seq, kind))| !is_there(**position, *seq, kind));
    lost.map(|(position, _)| *position).collect()
}

/// Checks what the clients were told, and repeats the last calls of each client with their request_ids.
pub async fn check_after_restart(client: &Client, db: &Path, calls: &[Vec<Call>], told: &mut Told) {
    let lost = lost_events(&committed_log(db), told);
    assert!(lost.is_empty(), "acknowledged events are lost: {lost:?}");
    for calls in calls {
        let newest = calls.iter().rev().take(2).rev();
        // The completion after an answered claim may have been committed without an answer. Then the lease is stale.
        for call in newest.filter(|call| !matches!(call.answer, Some(Answer::Claimed(_)))) {
            let repeated = repeat(client, &call.request).await;
            if let Some(answer) = &call.answer {
                assert_eq!(repeated, *answer, "a repeated call must return the first answer");
            }
            told.add(&[Call { request: call.request.clone(), answer: Some(repeated) }]);
        }
    }
    let log = committed_log(db);
    let own = log.events().iter().filter(|event| event.source == "test");
    let kinds: Vec<&str> = own.map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), kinds.len(), "a repeated call took effect twice");
    for run in &told.runs {
        assert_eq!(get_run(client, run).await.id, *run);
    }
    for task in &told.completed {
        assert_eq!(get_task(client, task).await.status(), TaskStatus::Completed);
    }
}

/// Sends a request again until it has the same answer twice.
async fn repeat(client: &Client, request: &Request) -> Answer {
    let answer = request.send(client).await.unwrap();
    assert_eq!(request.send(client).await.unwrap(), answer);
    answer
}

/// Reads every stream up to the newest position, runs the oracle, and checks that the stream of all events has every
/// acknowledged event. Returns the number of delivered events.
pub async fn check_streams(url: &str, db: &Path, watchers: Vec<Recorder>, told: &Told) -> usize {
    let log = committed_log(db);
    let mut deliveries = 0;
    for mut watcher in watchers {
        let is_last = |message: &_| position(message) >= Some(log.newest());
        watcher.record(channel(url).await, is_last).await;
        assert_no_violations(&log, &watcher.parts);
        let events = watcher.parts.iter().flat_map(|part| part.events());
        let seen: BTreeSet<i64> = events.map(|event| event.position).collect();
        if watcher.parts[0].request.run_id.is_empty() {
            assert!(told.events.keys().all(|position| seen.contains(position)), "a stream has a gap");
        }
        deliveries += seen.len();
    }
    deliveries
}
