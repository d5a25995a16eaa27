//! This module renews the lease of a claimed task during the attempt.

use std::time::Duration;

use prost_types::Value;
use runhub_api::v1::{Beat, BeatResult, Claim, HeartbeatRequest, LeaseState};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Code;

use crate::{Client, Error, repeat_for};

/// Number of heartbeats per lease duration. With three heartbeats, two heartbeats can be late before the lease expires.
const HEARTBEATS_PER_LEASE: u32 = 3;

/// Longest time between two heartbeats. The lease holder learns of a cancellation from the response to a heartbeat, and
/// the default grace period of a cancellation is only 30 s.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

/// Shortest lease duration that a server grants. If a claim has no lease duration, this value limits the rate of
/// heartbeats.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// The reason for the loss of a lease.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseLost {
    /// The server answered a heartbeat with LOST, because the task was requeued, ended, or claimed by another agent.
    /// The server would reject a report on the task.
    #[error(
        "the lease of task {task_id} is lost, because the task was requeued, ended, or claimed by another agent: stop \
         the attempt"
    )]
    Taken {
        /// The id of the task.
        task_id: String,
    },
    /// The server has answered no heartbeat for a whole lease duration, so another agent may hold the lease of the
    /// task. The server accepts a late report only if no other agent has claimed the task.
    #[error(
        "the server answered no heartbeat for task {task_id} for a whole lease duration ({cause}), so the lease may be \
         lost: stop the attempt"
    )]
    Unanswered {
        /// The id of the task.
        task_id: String,
        /// The error of the last heartbeat.
        cause: Error,
    },
    /// The server refused a heartbeat and would refuse every retry, for example because the progress is larger than 1
    /// MiB.
    #[error(
        "the server refused a heartbeat for task {task_id} ({cause}), so the lease can't be renewed: stop the attempt"
    )]
    Refused {
        /// The id of the task.
        task_id: String,
        /// The error of the refused heartbeat.
        cause: Error,
    },
}

/// The lease state in the last answered heartbeat, or the reason for the loss of the lease.
type LeaseStatus = Result<LeaseState, LeaseLost>;

/// Renews a lease with heartbeats in the background until the keeper is dropped.
///
/// A lease holder [runs](Self::run) the attempt, reports on the task after `run` has returned, and then drops the
/// keeper. The future of the attempt must not report on the task. After the report, the server answers heartbeats with
/// LOST, so `run` could drop the future before the response to the report arrives.
#[derive(Debug)]
#[must_use = "the keeper sends heartbeats only until it is dropped"]
pub struct LeaseKeeper {
    task_id: String,
    heartbeats: JoinHandle<()>,
    progress: watch::Sender<Option<Value>>,
    status: watch::Receiver<LeaseStatus>,
}

impl Client {
    /// Renews the lease of a claim until the returned keeper is dropped. The keeper sends a heartbeat after each third
    /// of the `lease_duration`, and at least every 10 s, so that the holder learns of a cancellation in time. This
    /// method must be called within a Tokio runtime.
    ///
    /// The keeper sends the first heartbeat immediately, because the server may have granted the lease long before this
    /// call. A holder that has lost the lease in the meantime then learns of the loss early.
    pub fn keep_lease(&self, claim: &Claim) -> LeaseKeeper {
        let task_id = claim.task.as_ref().map(|task| task.id.clone()).unwrap_or_default();
        let duration = claim.lease_duration.and_then(|duration| Duration::try_from(duration).ok());
        let (progress, progress_receiver) = watch::channel(None);
        let (status_sender, status) = watch::channel(Ok(LeaseState::Extended));
        let heartbeats = Heartbeats {
            // `Heartbeats` retries heartbeats itself until the lease is lost, so the client must not retry calls.
            client: self.clone().without_retry(),
            task_id: task_id.clone(),
            lease_token: claim.lease_token.clone(),
            lease: duration.unwrap_or_default().max(SHORTEST_LEASE),
            extended_from: Instant::now(),
            progress: progress_receiver,
            status: status_sender,
        };
        LeaseKeeper { task_id, heartbeats: tokio::spawn(heartbeats.send_until_lost()), progress, status }
    }
}

impl LeaseKeeper {
    /// Runs the future `work` while the lease is renewed, and returns the output of `work`. If the lease is lost, the
    /// function drops `work` at the current await point. If `work` never awaits, or starts a Tokio task or a process,
    /// the caller must end the attempt.
    ///
    /// A cancellation does not end the attempt. The keeper still renews the lease, and the server still accepts a
    /// report. A future that should stop must also wait for [`cancel_requested`](Self::cancel_requested).
    ///
    /// # Errors
    /// Fails if the lease is lost before the future `work` has returned. If the machine sleeps, the clock may stop. In
    /// this case, the next heartbeat detects whether the lease is lost.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, LeaseLost> {
        tokio::select! {
            // The lease is checked first. Otherwise, `work` could start after the lease is lost.
            biased;
            lost = self.lost() => Err(lost),
            done = work => Ok(done),
        }
    }

    /// Sets the progress that the next heartbeat carries: any JSON of at most 1 MiB. If an earlier progress value has
    /// not been sent, the new value replaces the earlier value. After the server has answered a heartbeat, the keeper
    /// does not send the heartbeat's progress value again.
    pub fn progress(&self, progress: Value) {
        self.progress.send_replace(Some(progress));
    }

    /// Returns the lease state in the last answered heartbeat. The state is EXTENDED before the first response and LOST
    /// after the loss of the lease.
    pub fn state(&self) -> LeaseState {
        self.status.borrow().as_ref().copied().unwrap_or(LeaseState::Lost)
    }

    /// Waits until the run is being cancelled. The holder should then finish or release the task within the grace
    /// period of the cancellation.
    ///
    /// # Errors
    /// Fails if the lease is lost.
    pub async fn cancel_requested(&self) -> Result<(), LeaseLost> {
        self.wait_for_state(LeaseState::CancelRequested).await
    }

    /// Waits until the run is paused. The attempt should then stop at a point from which the attempt can continue
    /// later. The keeper renews the lease during the pause.
    ///
    /// # Errors
    /// Fails if the lease is lost.
    pub async fn pause_requested(&self) -> Result<(), LeaseLost> {
        self.wait_for_state(LeaseState::PauseRequested).await
    }

    /// Waits until a paused run is resumed. If the run is neither paused nor being cancelled, the function returns
    /// immediately.
    ///
    /// # Errors
    /// Fails if the lease is lost.
    pub async fn resumed(&self) -> Result<(), LeaseLost> {
        self.wait_for_state(LeaseState::Extended).await
    }

    /// Waits until the lease is lost, and returns the reason for the loss.
    pub async fn lost(&self) -> LeaseLost {
        let mut status = self.status.clone();
        let lost = status.wait_for(Result::is_err).await.ok().and_then(|status| status.clone().err());
        lost.unwrap_or_else(|| self.loss_after_shutdown())
    }

    async fn wait_for_state(&self, wanted: LeaseState) -> Result<(), LeaseLost> {
        let mut status = self.status.clone();
        let is_wanted_or_lost = |status: &LeaseStatus| status.as_ref().map_or(true, |state| *state == wanted);
        let reached = status.wait_for(is_wanted_or_lost).await;
        reached.map_err(|_| self.loss_after_shutdown())?.clone().map(|_| ())
    }

    /// Returns the loss that a keeper reports if the Tokio task that sends the heartbeats has ended, for example
    /// because the runtime shuts down.
    fn loss_after_shutdown(&self) -> LeaseLost {
        let cause = Error::unanswered("the Tokio task that sends the heartbeats has ended");
        LeaseLost::Unanswered { task_id: self.task_id.clone(), cause }
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.heartbeats.abort();
    }
}

/// The Tokio task that sends the heartbeats of one lease in the background.
struct Heartbeats {
    client: Client,
    task_id: String,
    lease_token: String,
    lease: Duration,
    /// Time when the last answered heartbeat was sent or, before the first response, when `keep_lease` was called. The
    /// server extends the lease after this time. The lease is therefore valid for at least the lease duration from this
    /// time, even if the clocks of client and server differ.
    extended_from: Instant,
    progress: watch::Receiver<Option<Value>>,
    status: watch::Sender<LeaseStatus>,
}

impl Heartbeats {
    async fn send_until_lost(mut self) {
        let interval = (self.lease / HEARTBEATS_PER_LEASE).min(LONGEST_INTERVAL);
        loop {
            let status = self.send().await;
            let is_lost = status.is_err();
            if self.status.send(status).is_err() || is_lost {
                return;
            }
            tokio::time::sleep_until(self.extended_from + interval).await;
        }
    }

    /// Sends one heartbeat, and retries the heartbeat until the server answers or the lease may have expired. Returns
    /// the state of the lease. Fails with the reason for the loss if the lease is lost.
    async fn send(&mut self) -> LeaseStatus {
        let limit = (self.extended_from + self.lease).saturating_duration_since(Instant::now());
        let mut progress = None;
        let send_heartbeat = || {
            // If a new progress value was set after the last heartbeat, the new value replaces the older value.
            if self.progress.has_changed().unwrap_or(false) {
                progress = self.progress.borrow_and_update().clone();
            }
            let beat = Beat { lease_token: self.lease_token.clone(), progress: progress.clone() };
            // Without this limit, a heartbeat that hangs, for example on a dead connection, would leave no time for a
            // retry.
            send_with_timeout(self.lease / HEARTBEATS_PER_LEASE, self.client.clone(), beat)
        };
        let sent = repeat_for(limit, send_heartbeat).await;
        let (sent_time, result) = sent.map_err(|error| self.loss_from_error(error))?;
        self.extended_from = sent_time;
        match result.state() {
            LeaseState::Lost => Err(LeaseLost::Taken { task_id: self.task_id.clone() }),
            state => Ok(state),
        }
    }

    /// Converts the error of the last heartbeat to the reason for the loss of the lease.
    fn loss_from_error(&self, cause: Error) -> LeaseLost {
        let task_id = self.task_id.clone();
        if cause.is_temporary() || cause.code() == Code::DeadlineExceeded {
            LeaseLost::Unanswered { task_id, cause }
        } else {
            LeaseLost::Refused { task_id, cause }
        }
    }
}

async fn send_with_timeout(limit: Duration, client: Client, beat: Beat) -> Result<(Instant, BeatResult), Error> {
    let sent = tokio::time::timeout(limit, send(client, beat)).await;
    sent.unwrap_or_else(|_| {
        Err(Error::unanswered("the server did not answer the heartbeat within a third of the lease duration"))
    })
}

/// Sends a heartbeat once. Returns the result of the heartbeat and the time when the heartbeat was sent. Fails if the
/// call fails or the response has no result.
async fn send(client: Client, beat: Beat) -> Result<(Instant, BeatResult), Error> {
    let sent = Instant::now();
    let request = HeartbeatRequest { beats: vec![beat], ..HeartbeatRequest::default() };
    let results = client.heartbeat(request).await?.results;
    match results.into_iter().next() {
        Some(result) => Ok((sent, result)),
        None => Err(Error::unanswered("the response has no result for the heartbeat: report the bug")),
    }
}
