//! This module caches which claims found no task, so that the server answers a repeated claim without the writer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::claim::ClaimRequest;
use super::obstacle::Unclaimable;
use crate::domain::time::Timestamp;
use crate::store::ClaimVersion;

/// Maximum number of cached claims. A full cache is cleared.
const MAX_CLAIMS: usize = 10_000;

/// A cache of the claims that found no task, by the run and the capabilities of the claim.
#[derive(Default)]
pub struct IdleClaims {
    claims: Mutex<HashMap<ClaimKey, IdleClaim>>,
}

/// The `run_id` and the digest of the capabilities of a claim.
type ClaimKey = (Option<String>, Digest);

/// The SHA-256 of a list of names. Digests as keys bound the memory of a cache, because a list can have 64 KiB.
pub type Digest = [u8; 32];

/// Returns the digest of a list of names. Lists with equal names in another order have another digest.
pub fn digest(names: &[String]) -> Digest {
    let mut hasher = Sha256::new();
    for name in names {
        // Hash the length too, because otherwise the lists ["ab"] and ["a", "b"] would have equal digests.
        hasher.update(name.len().to_le_bytes());
        hasher.update(name);
    }
    hasher.finalize().into()
}

#[derive(Debug, Clone, Copy, Default)]
struct IdleClaim {
    /// The state of the store in which no task was claimable. If no such state is cached, the value is None.
    no_task: Option<Validity<ClaimVersion>>,
    /// The state of the store in which the obstacles were counted, and the counts. If no counts are cached, the value
    /// is None.
    counted: Option<(Validity<i64>, Unclaimable)>,
}

/// The state of the store for which a result is valid. `V` is the type of the version of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity<V> {
    /// The claim version or the position of the newest event. The result is valid only for this version.
    pub version: V,
    /// The earliest `not_before_time` of a delayed task. At this time, the result becomes invalid.
    pub until: Option<Timestamp>,
}

impl<V: PartialEq> Validity<V> {
    fn includes(&self, version: V, now: Timestamp) -> bool {
        self.version == version && self.is_before_end(now)
    }

    fn is_before_end(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl IdleClaims {
    /// Caches that a claim found no task.
    pub fn cache_no_task(&self, request: &ClaimRequest, validity: Validity<ClaimVersion>) {
        self.change(request, |claim| claim.no_task = Some(validity));
    }

    /// Returns the version at which the claim finds no task, or None if no such version is cached.
    pub fn find_version_without_task(&self, request: &ClaimRequest, now: Timestamp) -> Option<ClaimVersion> {
        self.get(request).no_task.filter(|validity| validity.is_before_end(now)).map(|validity| validity.version)
    }

    /// Caches the obstacles to a claim.
    pub fn cache_obstacles(&self, request: &ClaimRequest, validity: Validity<i64>, counted: Unclaimable) {
        self.change(request, |claim| claim.counted = Some((validity, counted)));
    }

    /// Returns the obstacles to a claim, or None if no valid counts are cached. `position` is the position of the
    /// newest committed event.
    pub fn find_obstacles(&self, request: &ClaimRequest, position: i64, now: Timestamp) -> Option<Unclaimable> {
        let (validity, counted) = self.get(request).counted?;
        validity.includes(position, now).then_some(counted)
    }

    fn get(&self, request: &ClaimRequest) -> IdleClaim {
        self.lock().get(&claim_key(request)).copied().unwrap_or_default()
    }

    fn change(&self, request: &ClaimRequest, change: impl FnOnce(&mut IdleClaim)) {
        let mut claims = self.lock();
        let key = claim_key(request);
        if claims.len() >= MAX_CLAIMS && !claims.contains_key(&key) {
            claims.clear();
        }
        change(claims.entry(key).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClaimKey, IdleClaim>> {
        // Ignore lock poisoning, because each change of the map is one step.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn claim_key(request: &ClaimRequest) -> ClaimKey {
    (request.run_id.clone(), digest(&request.capabilities))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);
    const VERSION: ClaimVersion = ClaimVersion { number: 7, rollbacks: 0 };

    fn request(run_id: &str, capabilities: &[&str]) -> ClaimRequest {
        ClaimRequest {
            run_id: Some(run_id.to_owned()),
            agent_id: "agent".to_owned(),
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
            lease_duration: Duration::from_secs(60),
        }
    }

    #[test]
    fn result_is_valid_until_next_task_is_due() {
        let idle = IdleClaims::default();
        let later = NOW.plus(Duration::from_secs(5));
        idle.cache_no_task(&request("a", &[]), Validity { version: VERSION, until: Some(later) });
        assert_eq!(idle.find_version_without_task(&request("a", &[]), NOW), Some(VERSION));
        assert_eq!(idle.find_version_without_task(&request("a", &[]), later), None);
    }

    #[test]
    fn result_is_valid_only_for_equal_run_and_capabilities() {
        let idle = IdleClaims::default();
        let validity = Validity { version: VERSION, until: None };
        idle.cache_no_task(&request("a", &["x"]), validity);
        assert_eq!(idle.find_version_without_task(&request("b", &["x"]), NOW), None);
        assert_eq!(idle.find_version_without_task(&request("a", &["x", "y"]), NOW), None);
        assert_eq!(idle.find_obstacles(&request("a", &["x"]), 9, NOW), None);
        let validity = Validity { version: 9, until: None };
        idle.cache_obstacles(&request("a", &["x"]), validity, Unclaimable { pending: 3, ..Unclaimable::default() });
        assert_eq!(idle.find_version_without_task(&request("a", &["x"]), NOW), Some(VERSION));
        assert_eq!(idle.find_obstacles(&request("a", &["x"]), 9, NOW).map(|counted| counted.pending), Some(3));
    }

    #[test]
    fn full_cache_is_cleared() {
        let idle = IdleClaims::default();
        for number in 0..=MAX_CLAIMS {
            idle.cache_no_task(&request(&number.to_string(), &[]), Validity { version: VERSION, until: None });
        }
        assert_eq!(idle.lock().len(), 1);
    }
}
