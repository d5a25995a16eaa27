//! This module makes calls, renews leases and reads subscriptions in the background, while the runner runs later
//! steps.

use std::future::pending;

use anyhow::{Context, Result, ensure};
use runhub_client::v1::{Claim, SubscribeEventsRequest};
use runhub_client::{Client, Error, LeaseLost, Update};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::json;
use crate::matching::find_difference;

/// The result of a call. The response is in JSON.
pub(crate) type CallResult = Result<Value, Error>;

/// A Tokio task that is aborted when this handle is dropped.
pub(crate) struct BackgroundTask<T>(JoinHandle<T>);

impl<T: Send + 'static> BackgroundTask<T> {
    pub(crate) fn start(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    pub(crate) async fn join(mut self) -> Result<T> {
        Ok((&mut self.0).await?)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Drop for BackgroundTask<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts an attempt in the background, and renews the lease of the claim during the attempt. Only the loss of the
/// lease ends the attempt. Returns the attempt's Tokio task, whose output is the reason for the loss.
pub(crate) fn keep_lease(client: &Client, claim: &Claim) -> BackgroundTask<Option<LeaseLost>> {
    let lease = client.keep_lease(claim);
    BackgroundTask::start(async move { lease.run(pending::<()>()).await.err() })
}

/// Returns the name that scenarios use for the reason why a lease was lost.
pub(crate) fn cause_name(lost: &LeaseLost) -> &'static str {
    match lost {
        LeaseLost::Taken { .. } => "taken",
        LeaseLost::Unanswered { .. } => "unanswered",
        LeaseLost::Refused { .. } => "refused",
    }
}

/// The messages that a subscription has received.
#[derive(Default)]
struct ReceivedMessages {
    events: Vec<Value>,
    caught_up: usize,
    /// The reason for the end of the subscription, or the text of the error that ended the subscription. If the
    /// subscription has not ended, the value is None.
    end: Option<String>,
}

impl ReceivedMessages {
    fn add(&mut self, update: Result<Update, Error>) -> Result<()> {
        match update {
            Ok(Update::Event(event)) => self.events.push(json::from_message("Event", &*event)?),
            Ok(Update::CaughtUp(_)) => self.caught_up += 1,
            Ok(Update::End(reason, _)) => self.end = Some(reason.as_str_name().to_owned()),
            Ok(Update::Snapshot(_) | Update::Bookmark(_)) => {}
            Err(error) => self.end = Some(error.to_string()),
        }
        Ok(())
    }

    fn positions(&self) -> Vec<i64> {
        // Protobuf's JSON format encodes an int64 as a string.
        self.events.iter().filter_map(|event| event.get("position")?.as_str()?.parse().ok()).collect()
    }

    fn kinds(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event.get("kind")?.as_str()).collect()
    }
}

/// Reads a subscription in the background and stores the received messages.
pub(crate) struct Collector {
    collected: watch::Receiver<ReceivedMessages>,
    _collecting: BackgroundTask<()>,
}

impl Collector {
    pub(crate) fn start(client: &Client, request: SubscribeEventsRequest) -> Self {
        let mut updates = client.subscribe(request);
        let (sender, collected) = watch::channel(ReceivedMessages::default());
        let collecting = BackgroundTask::start(async move {
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

    /// Waits for an event that matches, and returns the first matching event. Fails if the subscription ends before the
    /// event.
    pub(crate) async fn wait_for_event(&mut self, expected: &Value) -> Result<Value> {
        let find = |collected: &ReceivedMessages| {
            collected.events.iter().find(|event| find_difference(expected, Some(event)).is_none()).cloned()
        };
        let is_found_or_ended = |collected: &ReceivedMessages| find(collected).is_some() || collected.end.is_some();
        let collected = self.collected.wait_for(is_found_or_ended).await?;
        find(&collected).with_context(|| {
            format!(
                "the subscription ended with {:?} before the event {expected}, after the events {:?}: \
                 check the scenario's steps before this step",
                collected.end,
                collected.kinds()
            )
        })
    }

    /// Waits for the end of the subscription. Fails if the reason for the end is not `expected`, if the kinds of the
    /// received events are not `kinds`, if the positions do not ascend, or if the subscription has not caught up
    /// exactly once.
    pub(crate) async fn wait_for_end(&mut self, expected: &str, kinds: &[String]) -> Result<()> {
        let collected = self.collected.wait_for(|collected| collected.end.is_some()).await?;
        ensure!(
            collected.end.as_deref() == Some(expected),
            "the subscription must end with {expected}, but ended with {:?}: \
             check the scenario's steps before this step",
            collected.end
        );
        ensure!(
            collected.kinds() == kinds,
            "the subscription must receive the events {kinds:?}, but received {:?}: \
             check the scenario's steps before this step",
            collected.kinds()
        );
        let positions = collected.positions();
        ensure!(
            positions.is_sorted_by(|a, b| a < b),
            "the subscription must receive ascending positions, but received {positions:?}: report the bug"
        );
        ensure!(
            collected.caught_up == 1,
            "the subscription must catch up exactly once, but has caught up {} times: report the bug",
            collected.caught_up
        );
        Ok(())
    }
}
