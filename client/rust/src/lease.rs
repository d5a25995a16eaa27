//! Keeping the lease of a claimed task during the work.

use std::time::Duration;

use prost_types::Value;
use runhub_api::v1::{Beat, BeatResult, Claim, HeartbeatRequest, LeaseState};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Code;

use crate::{Client, Error, repeat_for};

/// With three heartbeats per lease duration, two may be late without losing the lease.
const HEARTBEATS_PER_LEASE: u32 = 3;

/// The longest time between two heartbeats. The holder learns of a request to stop with the next heartbeat, and the usual
/// grace of a cancellation is 30 s.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

/// The shortest lease that a server grants. It limits the rate of heartbeats if a claim has no lease duration.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// Why a lease is lost.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseLost {
    /// The server answered LOST: the task was requeued, moved, or claimed by another agent. The server would reject a report.
    #[error("the lease is lost: the task was requeued, moved, or claimed by another agent")]
    Taken,
    /// The server has answered no heartbeat for a whole lease duration, so another agent may hold the task. Holds the error
    /// of the last try. The server still accepts a report if no agent has claimed the task.
    #[error("the lease may be lost: the server has answered no heartbeat for a whole lease duration: {0}")]
    Unanswered(Error),
    /// The server refused a heartbeat and would refuse it again, for example because its progress is over 1 MiB.
    #[error("the lease can't be kept: {0}")]
    Refused(Error),
}

/// The state of the lease in the last answer, or why it is lost.
type LeaseStatus = Result<LeaseState, LeaseLost>;

/// Keeps a lease with heartbeats in the background, until it is dropped.
///
/// A holder [runs](Self::run) the work, reports on the task, and drops the keeper. Report outside of `run`: a heartbeat that
/// is sent after the completion is answered LOST, so `run` would drop the report before its answer.
#[derive(Debug)]
#[must_use = "the keeper sends heartbeats only until it is dropped"]
pub struct LeaseKeeper {
    heartbeats: JoinHandle<()>,
    progress: watch::Sender<Option<Value>>,
    status: watch::Receiver<LeaseStatus>,
}

impl Client {
    /// Keeps the lease of a claim: sends a heartbeat after each third of its `lease_duration`, but at least every 10 s so
    /// that a request to stop is noticed in time. Must be called within a tokio runtime.
    ///
    /// The first heartbeat is sent at once, because the claim may have been answered long before this call. Also, a holder
    /// that has lost the task in the meantime then learns of it before the work begins.
    pub fn keep_lease(&self, claim: &Claim) -> LeaseKeeper {
        let duration = claim.lease_duration.and_then(|duration| Duration::try_from(duration).ok());
        let (progress, progress_receiver) = watch::channel(None);
        let (status_sender, status) = watch::channel(Ok(LeaseState::Extended));
        let heartbeats = Heartbeats {
            // Heartbeats has a retry of its own, which ends when the lease is lost.
            client: self.clone().without_retry(),
            lease_token: claim.lease_token.clone(),
            lease: duration.unwrap_or_default().max(SHORTEST_LEASE),
            extended_from: Instant::now(),
            progress: progress_receiver,
            status: status_sender,
        };
        LeaseKeeper { heartbeats: tokio::spawn(heartbeats.send_until_lost()), progress, status }
    }
}

impl LeaseKeeper {
    /// Runs the work while the lease is kept. If the lease is lost, drops the work at its current await and then returns.
    /// Work that never awaits, or that runs in a task or process of its own, must be ended by the caller.
    ///
    /// A request to stop does not end the work: the keeper goes on keeping the lease, and the server accepts a report. Work
    /// that should stop must also wait for [`cancel_requested`](Self::cancel_requested).
    ///
    /// # Errors
    /// Fails if the lease is lost before the work is done. If the machine sleeps, the time may not count; the next heartbeat
    /// then tells whether the lease is lost.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, LeaseLost> {
        tokio::select! {
            // Checks the lease first, so that work is not begun after the lease is lost.
            biased;
            lost = self.lost() => Err(lost),
            done = work => Ok(done),
        }
    }

    /// Sets the progress that the next heartbeat carries: any JSON of at most 1 MiB. It replaces a progress that is not sent
    /// yet. An answered progress is not sent again.
    pub fn progress(&self, progress: Value) {
        self.progress.send_replace(Some(progress));
    }

    /// Returns the state in the last answered heartbeat: EXTENDED before the first one, LOST once the lease is lost.
    pub fn state(&self) -> LeaseState {
        self.status.borrow().as_ref().copied().unwrap_or(LeaseState::Lost)
    }

    /// Waits until the run is being cancelled. The task should then be finished or released within the grace.
    ///
    /// # Errors
    /// Fails if the lease is lost.
    pub async fn cancel_requested(&self) -> Result<(), LeaseLost> {
        self.wait_for_state(LeaseState::CancelRequested).await
    }

    /// Waits until the run is paused. The work should then stop at a good point; the keeper goes on keeping the lease.
    ///
    /// # Errors
    /// Fails if the lease is lost.
    pub async fn pause_requested(&self) -> Result<(), LeaseLost> {
        self.wait_for_state(LeaseState::PauseRequested).await
    }

    /// Waits until a paused run is resumed. Returns at once if the run is neither paused nor being cancelled.
    ///
    /// # Errors
    /// Fails if the lease is lost.
    pub async fn resumed(&self) -> Result<(), LeaseLost> {
        self.wait_for_state(LeaseState::Extended).await
    }

    /// Waits until the lease is lost, and returns why.
    pub async fn lost(&self) -> LeaseLost {
        let mut status = self.status.clone();
        let lost = status.wait_for(Result::is_err).await.ok().and_then(|status| status.clone().err());
        lost.unwrap_or_else(heartbeats_stopped)
    }

    async fn wait_for_state(&self, wanted: LeaseState) -> Result<(), LeaseLost> {
        let mut status = self.status.clone();
        let is_wanted_or_lost = |status: &LeaseStatus| status.as_ref().map_or(true, |state| *state == wanted);
        let reached = status.wait_for(is_wanted_or_lost).await;
        reached.map_err(|_| heartbeats_stopped())?.clone().map(|_| ())
    }
}

/// Returns the loss that a keeper reports if its background task has ended, as when the runtime shuts down.
fn heartbeats_stopped() -> LeaseLost {
    LeaseLost::Unanswered(Error::unanswered("the task that sends heartbeats has ended"))
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.heartbeats.abort();
    }
}

/// The background task that sends heartbeats.
struct Heartbeats {
    client: Client,
    lease_token: String,
    lease: Duration,
    /// When the last answered heartbeat was sent, or when the keeper began. The server extends the lease from a later time,
    /// so the lease is valid for at least its duration from here, whatever the clocks say.
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

    /// Sends one heartbeat, and repeats it until it is answered or the lease may have expired.
    async fn send(&mut self) -> LeaseStatus {
        let limit = (self.extended_from + self.lease).saturating_duration_since(Instant::now());
        let mut progress = None;
        let make_try = || {
            // A progress that was set since the last try replaces the older one.
            if self.progress.has_changed().unwrap_or(false) {
                progress = self.progress.borrow_and_update().clone();
            }
            let beat = Beat { lease_token: self.lease_token.clone(), progress: progress.clone() };
            // A try that hangs, for example on a dead connection, must leave time for another one.
            send_within(self.lease / HEARTBEATS_PER_LEASE, self.client.clone(), beat)
        };
        let (sent, result) = repeat_for(limit, make_try).await.map_err(lost_by)?;
        self.extended_from = sent;
        match result.state() {
            LeaseState::Lost => Err(LeaseLost::Taken),
            state => Ok(state),
        }
    }
}

/// Returns the loss that the error of the last try means.
fn lost_by(error: Error) -> LeaseLost {
    if error.is_passing() || error.code() == Code::DeadlineExceeded {
        LeaseLost::Unanswered(error)
    } else {
        LeaseLost::Refused(error)
    }
}

async fn send_within(limit: Duration, client: Client, beat: Beat) -> Result<(Instant, BeatResult), Error> {
    let sent = tokio::time::timeout(limit, send(client, beat)).await;
    sent.unwrap_or_else(|_| Err(Error::unanswered("no answer before the deadline of the try")))
}

/// Makes one try and returns the result with the time when it was sent.
async fn send(client: Client, beat: Beat) -> Result<(Instant, BeatResult), Error> {
    let sent = Instant::now();
    let request = HeartbeatRequest { beats: vec![beat], ..HeartbeatRequest::default() };
    let results = client.heartbeat(request).await?.results;
    match results.into_iter().next() {
        Some(result) => Ok((sent, result)),
        None => Err(Error::unanswered("the answer has no result for the heartbeat")),
    }
}
