//! What goes on while the steps are played: calls, leases that are kept, subscriptions.

use std::future::pending;

use anyhow::{Context, Result, ensure};
use runhub_client::v1::{Claim, SubscribeEventsRequest};
use runhub_client::{Client, Error, LeaseLost, Update};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::json;
use crate::matching::difference;

/// What a call came to.
pub(crate) type Answer = Result<Value, Error>;

/// A task that ends when its handle is dropped.
pub(crate) struct Background<T>(JoinHandle<T>);

impl<T: Send + 'static> Background<T> {
    pub(crate) fn begin(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    pub(crate) async fn end(mut self) -> Result<T> {
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

/// Work that ends only when its lease is lost.
pub(crate) fn hold(client: &Client, claim: &Claim) -> Background<Option<LeaseLost>> {
    let lease = client.keep_lease(claim);
    Background::begin(async move { lease.run(pending::<()>()).await.err() })
}

/// The cause as scenarios name it.
pub(crate) fn because(lost: &LeaseLost) -> &'static str {
    match lost {
        LeaseLost::Taken => "taken",
        LeaseLost::Unanswered(_) => "unanswered",
        LeaseLost::Refused(_) => "refused",
    }
}

/// What a subscription has brought so far.
#[derive(Default)]
struct Seen {
    events: Vec<Value>,
    caught_up: usize,
    /// Its end, or what it failed with.
    end: Option<String>,
}

impl Seen {
    fn take(&mut self, update: Result<Update, Error>) -> Result<()> {
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
        // An int64 is a string in JSON.
        self.events.iter().filter_map(|event| event.get("position")?.as_str()?.parse().ok()).collect()
    }

    fn kinds(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event.get("kind")?.as_str()).collect()
    }
}

/// A subscription that collects.
pub(crate) struct Watch {
    seen: watch::Receiver<Seen>,
    _collecting: Background<()>,
}

impl Watch {
    pub(crate) fn begin(client: &Client, request: SubscribeEventsRequest) -> Self {
        let mut updates = client.subscribe(request);
        let (collected, seen) = watch::channel(Seen::default());
        let collecting = Background::begin(async move {
            while let Some(update) = updates.next().await {
                collected.send_modify(|seen| {
                    if let Err(error) = seen.take(update) {
                        seen.end = Some(error.to_string());
                    }
                });
            }
        });
        Self { seen, _collecting: collecting }
    }

    /// Waits for an event that matches, and returns the first.
    pub(crate) async fn event(&mut self, wanted: &Value) -> Result<Value> {
        let find = |seen: &Seen| seen.events.iter().find(|event| difference(wanted, Some(event)).is_none()).cloned();
        let seen = self.seen.wait_for(|seen| find(seen).is_some() || seen.end.is_some()).await?;
        find(&seen).with_context(|| format!("no event {wanted} before the end {:?}, only {:?}", seen.end, seen.kinds()))
    }

    /// Waits for the end, and looks whether everything came, once.
    pub(crate) async fn end(&mut self, wanted: &str, kinds: &[String]) -> Result<()> {
        let seen = self.seen.wait_for(|seen| seen.end.is_some()).await?;
        ensure!(seen.end.as_deref() == Some(wanted), "wanted the end {wanted}, came {:?}", seen.end);
        ensure!(seen.kinds() == kinds, "wanted events {kinds:?}, came {:?}", seen.kinds());
        ensure!(seen.positions().is_sorted_by(|a, b| a < b), "not in order, or twice: {:?}", seen.positions());
        ensure!(seen.caught_up == 1, "it was caught up {} times", seen.caught_up);
        Ok(())
    }
}
