//! Keeping a claimed task while it is worked on.

use std::time::Duration;

use prost_types::Value;
use runhub_api::v1::{Beat, BeatResult, Claim, HeartbeatRequest, LeaseState};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Code;

use crate::{Client, Error, repeat_for};

/// A lease is beaten for so often while it lasts: two beats may come late.
const BEATS_PER_LEASE: u32 = 3;

/// However long the lease, the holder hears within this that it is asked to stop: a cancel's usual grace is 30 s.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

/// No server gives a shorter lease. It bounds how often is beaten for a claim that does not say.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// Why a lease is over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseLost {
    /// The server says so: the task was taken back, moved or given to somebody else. A report would be refused.
    #[error("the lease is lost: the task was taken back, moved or given to somebody else")]
    Taken,
    /// No beat was answered for as long as the lease lasts: by now somebody else may have the task. With what the last
    /// try met. A report is still taken if nobody has it.
    #[error("the lease may be lost: no beat was answered for as long as it lasts: {0}")]
    Unanswered(Error),
    /// The server refused a beat, and would refuse it again: a progress over 1 MiB, say.
    #[error("the lease can't be kept: {0}")]
    Refused(Error),
}

/// How the lease stands by the last answer.
type Standing = Result<LeaseState, LeaseLost>;

/// Keeps a lease by heartbeats in the background, until it is dropped.
///
/// What a holder does: [`run`](Self::run) the work, report on the task, drop the keeper. The report stands outside of
/// `run`: a beat that comes right after a completion is answered LOST, which would cut off the wait for its answer.
#[derive(Debug)]
#[must_use = "it beats only until it is dropped"]
pub struct LeaseKeeper {
    beating: JoinHandle<()>,
    progress: watch::Sender<Option<Value>>,
    standing: watch::Receiver<Standing>,
}

impl Client {
    /// Keeps the lease of a claim: beats at a third of its `lease_duration`, but at least every 10 s so that a request
    /// to stop is heard in time. To be called within a tokio runtime.
    ///
    /// The first beat goes out at once. How long ago the claim was answered is unknown here (it may have waited in a
    /// queue), so after an interval may be too late; and who lost the task meanwhile hears of it before much work.
    pub fn keep_lease(&self, claim: &Claim) -> LeaseKeeper {
        let given = claim.lease_duration.and_then(|duration| Duration::try_from(duration).ok());
        let lease = given.unwrap_or_default().max(SHORTEST_LEASE);
        let (progress, progress_set) = watch::channel(None);
        let (standing_said, standing) = watch::channel(Ok(LeaseState::Extended));
        let beater = Beater {
            // It repeats a beat itself, within the lease.
            client: self.clone().without_retry(),
            lease_token: claim.lease_token.clone(),
            lease,
            answered: Instant::now(),
            progress: progress_set,
            standing: standing_said,
        };
        LeaseKeeper { beating: tokio::spawn(beater.keep()), progress, standing }
    }
}

impl LeaseKeeper {
    /// Runs the work for as long as the lease is kept. When it is lost the work is dropped where it waits, before this
    /// returns. Work that never waits, or runs in a task or process of its own, must see to its end itself.
    ///
    /// Being asked to stop does not end the work: the lease lives on and the report is taken. Work that wants to stop
    /// waits for [`cancel_requested`](Self::cancel_requested) beside what it does.
    ///
    /// # Errors
    /// The lease was lost before the work was done. Time during which the machine sleeps may not count; the next beat
    /// tells then.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, LeaseLost> {
        tokio::select! {
            // What is lost already is not begun.
            biased;
            lost = self.lost() => Err(lost),
            done = work => Ok(done),
        }
    }

    /// Sets what the next beat says of how far the work is: any JSON, at most 1 MiB. Until it is answered the latest
    /// wins; once it is answered it is not sent again.
    pub fn progress(&self, progress: Value) {
        self.progress.send_replace(Some(progress));
    }

    /// How the lease stands by the last answered beat; EXTENDED before the first, LOST from when it is over, by answer
    /// or by silence.
    pub fn state(&self) -> LeaseState {
        self.standing.borrow().as_ref().copied().unwrap_or(LeaseState::Lost)
    }

    /// Waits until the run is being cancelled: to finish or release the task within the grace.
    ///
    /// # Errors
    /// The lease was lost before.
    pub async fn cancel_requested(&self) -> Result<(), LeaseLost> {
        self.reached(LeaseState::CancelRequested).await
    }

    /// Waits until the run is paused: to come to a good place to stop. The lease is kept.
    ///
    /// # Errors
    /// The lease was lost before.
    pub async fn pause_requested(&self) -> Result<(), LeaseLost> {
        self.reached(LeaseState::PauseRequested).await
    }

    /// Waits until the run goes on after a pause; returns at once when it is neither paused nor being cancelled.
    ///
    /// # Errors
    /// The lease was lost before.
    pub async fn resumed(&self) -> Result<(), LeaseLost> {
        self.reached(LeaseState::Extended).await
    }

    /// Waits until the lease is lost, and says why.
    pub async fn lost(&self) -> LeaseLost {
        let mut standing = self.standing.clone();
        let lost = standing.wait_for(Result::is_err).await.ok().and_then(|now| now.clone().err());
        lost.unwrap_or_else(nobody_beats)
    }

    async fn reached(&self, wanted: LeaseState) -> Result<(), LeaseLost> {
        let mut standing = self.standing.clone();
        let reached = standing.wait_for(|now| now.as_ref().map_or(true, |state| *state == wanted)).await;
        reached.map_err(|_| nobody_beats())?.clone().map(|_| ())
    }
}

/// Without a beater nobody keeps the lease. That happens while its runtime shuts down.
fn nobody_beats() -> LeaseLost {
    LeaseLost::Unanswered(Error::unanswered("nobody beats any more"))
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

/// The task in the background.
struct Beater {
    client: Client,
    lease_token: String,
    lease: Duration,
    /// When the last beat that was answered was sent, or the keeper began. The server extends from later than that, so
    /// the lease is ours for at least its duration from here, whatever the clocks say.
    answered: Instant,
    progress: watch::Receiver<Option<Value>>,
    standing: watch::Sender<Standing>,
}

impl Beater {
    /// Beats until the lease is lost.
    async fn keep(mut self) {
        let interval = (self.lease / BEATS_PER_LEASE).min(LONGEST_INTERVAL);
        loop {
            let standing = self.beat().await;
            let is_lost = standing.is_err();
            if self.standing.send(standing).is_err() || is_lost {
                return;
            }
            tokio::time::sleep_until(self.answered + interval).await;
        }
    }

    /// One beat, repeated until it is answered or the lease may be over.
    async fn beat(&mut self) -> Standing {
        let limit = (self.answered + self.lease).saturating_duration_since(Instant::now());
        let mut progress = None;
        let beat = || {
            // A progress set between two tries is the one that counts.
            if self.progress.has_changed().unwrap_or(false) {
                progress = self.progress.borrow_and_update().clone();
            }
            let beat = Beat { lease_token: self.lease_token.clone(), progress: progress.clone() };
            // A try that hangs, on a connection that is dead, say, must not use up the lease.
            send_within(self.lease / BEATS_PER_LEASE, self.client.clone(), beat)
        };
        let (sent, result) = repeat_for(limit, beat).await.map_err(|error| {
            match error.is_passing() || error.code() == Code::DeadlineExceeded {
                true => LeaseLost::Unanswered(error),
                false => LeaseLost::Refused(error),
            }
        })?;
        self.answered = sent;
        match result.state() {
            LeaseState::Lost => Err(LeaseLost::Taken),
            state => Ok(state),
        }
    }
}

async fn send_within(limit: Duration, client: Client, beat: Beat) -> Result<(Instant, BeatResult), Error> {
    let sent = tokio::time::timeout(limit, send(client, beat)).await;
    sent.unwrap_or_else(|_| Err(Error::unanswered("no answer in time")))
}

/// One try, with when it was sent.
async fn send(client: Client, beat: Beat) -> Result<(Instant, BeatResult), Error> {
    let sent = Instant::now();
    let request = HeartbeatRequest { beats: vec![beat], ..HeartbeatRequest::default() };
    let results = client.heartbeat(request).await?.results;
    results.into_iter().next().map(|result| (sent, result)).ok_or_else(|| Error::unanswered("an answer to no beat"))
}
