//! This module defines leases. If an agent sends no heartbeat for the duration of its lease, the lease expires.

use std::time::Duration;

use super::time::Timestamp;

/// The minimum duration of a lease: 1 s.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The maximum duration of a lease: 24 h.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Minimum time (30 s) until a live lease expires, measured from a start of the server or from the end of a stall of
/// the server, so that the agent can send a heartbeat first. If the lease duration is shorter than 30 s, the minimum
/// time is the lease duration.
pub const RECOVERY: Duration = Duration::from_secs(30);

/// Represents the lease that an agent holds after a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The lease token, which identifies one attempt. The server returns the token only in the response to the claim.
    pub token: String,
    /// The time from a heartbeat until the lease expires.
    pub duration: Duration,
    /// The expiry time of the lease. If a heartbeat extends the lease, the server sets a new expiry time.
    pub expire_time: Timestamp,
}

impl Lease {
    /// Returns a lease that starts at `now` and expires after `duration`.
    pub fn start(token: String, duration: Duration, now: Timestamp) -> Self {
        Self { token, duration, expire_time: now.plus(duration) }
    }
}

coded_enum! {
    /// Lists the possible states of a lease after a heartbeat.
    LeaseState {
        Extended = 1 "LEASE_STATE_EXTENDED",
        Lost = 2 "LEASE_STATE_LOST",
        CancelRequested = 3 "LEASE_STATE_CANCEL_REQUESTED",
        PauseRequested = 4 "LEASE_STATE_PAUSE_REQUESTED",
    }
}
