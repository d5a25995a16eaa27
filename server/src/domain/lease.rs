//! Leases: how long a claim lives without a heartbeat (C3).

use std::time::Duration;

use super::time::Timestamp;

/// The minimum duration of a lease.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The maximum duration of a lease.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// After a time without a server, each live lease lives at least this long, or for its own duration if that is shorter, so
/// that its holder can report first.
pub const RECOVERY: Duration = Duration::from_secs(30);

/// The lease of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The lease token, which names one attempt. Only the answer to the claim contains it.
    pub token: String,
    /// The time that the lease lives after each heartbeat.
    pub duration: Duration,
    /// The time at which the lease expires unless a heartbeat extends it.
    pub expire_time: Timestamp,
}

impl Lease {
    /// Returns a lease that begins now.
    pub fn begin(token: String, duration: Duration, now: Timestamp) -> Self {
        Self { token, duration, expire_time: now.plus(duration) }
    }
}

coded_enum! {
    /// The state of a lease after a heartbeat.
    LeaseState {
        Extended = 1 "LEASE_STATE_EXTENDED",
        Lost = 2 "LEASE_STATE_LOST",
        CancelRequested = 3 "LEASE_STATE_CANCEL_REQUESTED",
        PauseRequested = 4 "LEASE_STATE_PAUSE_REQUESTED",
    }
}
