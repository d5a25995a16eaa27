//! The full disk: the server's writes fail until the disk has space again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runhub_client::v1::*;
use runhub_client::{Client, Error};
use tonic::Code;

use super::{FULLNESS, Faults};
use crate::support::calls::*;
use crate::support::random::Random;

/// Duration in seconds of a lease whose holder sends heartbeats to a server with a full disk. Most outages last longer.
const LEASE: i64 = 1;
/// Maximum time for which the disk is full.
const LONGEST_OUTAGE: Duration = Duration::from_millis(2_500);
/// Time between two attempts to write.
const RETRY: Duration = Duration::from_millis(20);

/// Counts the calls that the server has refused because the disk was full.
#[derive(Debug, Default)]
pub struct Refusals(AtomicUsize);

impl Refusals {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Makes a call until the server has space for its effect. Returns any other result.
    pub async fn retry<T, F: Future<Output = Result<T, Error>>>(&self, call: impl Fn() -> F) -> Result<T, Error> {
        loop {
            match call().await {
                Err(error) if self.note(&error) => tokio::time::sleep(RETRY).await,
                result => return result,
            }
        }
    }

    /// Returns whether the disk is full, and counts the refusal.
    fn note(&self, error: &Error) -> bool {
        let is_full =
            matches!(error, Error::Refused { reason, code: Code::Unavailable, .. } if reason.name() == "STORE_FULL");
        self.0.fetch_add(usize::from(is_full), Ordering::SeqCst);
        is_full
    }
}

impl Faults {
    /// Fills the disk: either only writes fail that make a file longer, or all writes.
    pub fn fill_disk(&self, random: &mut Random) {
        self.set(FULLNESS, 1 + random.below(2) as i64);
    }

    pub fn free_disk(&self) {
        self.set(FULLNESS, 0);
    }

    /// Fills the disk for a random time. Checks that a lease does not expire meanwhile, although it may be shorter, and
    /// that the server accepts writes afterwards.
    pub async fn fill_disk_and_wait(&self, client: &Client, random: &mut Random, refusals: &Refusals) {
        let run_id = new_run(client).await.id;
        add_task(client, &run_id, draft("held")).await;
        let held = claim_for(client, &run_id, "holder", LEASE).await.unwrap();
        let outage = LONGEST_OUTAGE * random.below(100) as u32 / 100;
        let filled = Instant::now();
        self.fill_disk(random);
        while filled.elapsed() < outage {
            match try_beat(client, &held).await {
                Ok(state) => assert_eq!(state, LeaseState::Extended),
                Err(error) => assert!(refusals.note(&error), "{error:?}"),
            }
            tokio::time::sleep(RETRY).await;
        }
        self.free_disk();
        let state = refusals.retry(|| try_beat(client, &held)).await.unwrap();
        assert_eq!(state, LeaseState::Extended);
        assert!(!kinds(client, &run_id).await.contains(&"lease_expired".to_owned()));
    }
}

async fn try_beat(client: &Client, held: &Claim) -> Result<LeaseState, Error> {
    let beats = vec![Beat { lease_token: held.lease_token.clone(), ..unset() }];
    Ok(client.heartbeat(HeartbeatRequest { beats, ..unset() }).await?.results.remove(0).state())
}
