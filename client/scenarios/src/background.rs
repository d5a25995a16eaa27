//! Work in the background of the steps: calls, leases and subscriptions.

use std::future::pending;

use anyhow::{Context, Result, ensure};
use runhub_client::v1::{Claim, SubscribeEventsRequest};
use runhub_client::{Client, Error, LeaseLost, Update};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::json;
use crate::matching::difference;

/// The result of a call, as JSON.
pub(crate) type Answer = Result<Value, Error>;

/// A task that is aborted when its handle is dropped.
pub(crate) struct Background<T>(JoinHandle<T>);

impl<T: Send + 'static> Background<T> {
    pub(crate) fn begin(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    pub(crate) async fn join(mut self) -> Result<T> {
        Ok((&mut self.0).await?)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts work that ends only when its lease is lost.
pub(crate) fn hold(client: &Client, claim: &Claim) -> Background<Option<LeaseLost>> {
    let lease = client.keep_lease(claim);
    Background::begin(async move { lease.run(pending::<()>()).await.err() })
}

/// Returns why the lease is lost, as scenarios name it.
pub(crate) fn because(lost: &LeaseLost) -> &'static str {
    match lost {
        LeaseLost::Taken => "taken",
        LeaseLost::Unanswered(_) => "unanswered",
        LeaseLost::Refused(_) => "refused",
    }
}

/// The messages that a subscription has received so far.
#[derive(Default)]
struct Collected {
    events: Vec<Value>,
    caught_up: usize,
    /// The reason of the subscription's end, or the text of the error that ended it.
    end: Option<String>,
}

impl Collected {
    fn add(&mut self, update: Result<Update, Error>) -> Result<()> {
        match update {
            Ok(Update::Event(event)) => self.events.push(json::untyped("Event", &*event)?),
            Ok(Update::CaughtUp(_)) => self.caught_up += 1,
            Ok(Update::End(reason, _)) => self.end = Some(reason.as_str_name().to_owned()),
            Ok(Update::Snapshot(_) | Update::Bookmark(_)) => {}
            Err(error) => self.end = Some(error.to_string()),
        }
        Ok(())
    }

    fn positions(&self) -> Vec<i64> {
        // In protobuf's JSON, an int64 is a string.
        self.events.iter().filter_map(|event| event.get("position")?.as_str()?.parse().ok()).collect()
    }

    fn kinds(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event.get("kind")?.as_str()).collect()
    }
}

/// Reads a subscription in the background and keeps its messages.
pub(crate) struct Collector {
    collected: watch::Receiver<Collected>,
    _collecting: Background<()>,
}

impl Collector {
    pub(crate) fn begin(client: &Client, request: SubscribeEventsRequest) -> Self {
        let mut updates = client.subscribe(request);
        let (sender, collected) = watch::channel(Collected::default());
        let collecting = Background::begin(async move {
            while let Some(update) = updates.next().await {
                sender.send_modify(|collected| {
                    if let Err(error) = collected.add(update) {
                        collected.end = Some(error.to_string());
                    }
                });
            }
        });
        Self { collected, _collecting: collecting }
    }

    /// Waits for an event that matches, and returns the first one. Fails if the subscription ends before.
    pub(crate) async fn event(&mut self, expected: &Value) -> Result<Value> {
        let find = |collected: &Collected| {
            collected.events.iter().find(|event| difference(expected, Some(event)).is_none()).cloned()
        };
        let is_found_or_ended = |collected: &Collected| find(collected).is_some() || collected.end.is_some();
        let collected = self.collected.wait_for(is_found_or_ended).await?;
        find(&collected).with_context(|| {
            format!("no event {expected} before the end {:?}, only {:?}", collected.end, collected.kinds())
        })
    }

    /// Waits for the end. Fails if the end's reason or the events are not as expected.
    pub(crate) async fn end(&mut self, expected: &str, kinds: &[String]) -> Result<()> {
        let collected = self.collected.wait_for(|collected| collected.end.is_some()).await?;
        ensure!(collected.end.as_deref() == Some(expected), "expected the end {expected}, got {:?}", collected.end);
        ensure!(collected.kinds() == kinds, "expected the events {kinds:?}, got {:?}", collected.kinds());
        let positions = collected.positions();
        ensure!(positions.is_sorted_by(|a, b| a < b), "the positions are not ascending: {positions:?}");
        ensure!(collected.caught_up == 1, "expected to catch up once, got {} times", collected.caught_up);
        Ok(())
    }
}
