//! Leases: how long a claim lives without a sign of life (C3).

use std::time::Duration;

use super::time::Timestamp;

/// The shortest that can be asked for.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The longest that can be asked for.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// After a time without a server, holders have so long to report, or their lease's duration if that is less.
pub const RECOVERY: Duration = Duration::from_secs(30);

/// What a claim gives its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Names the one attempt it is for. Never shown but in the claim's answer.
    pub token: String,
    /// What a heartbeat extends it by.
    pub duration: Duration,
    /// When it ends unless it is extended.
    pub expire_time: Timestamp,
}

impl Lease {
    /// A lease that begins now.
    pub fn begin(token: String, duration: Duration, now: Timestamp) -> Self {
        Self { token, duration, expire_time: now.plus(duration) }
    }
}

coded_enum! {
    /// How a lease stands after a heartbeat.
    LeaseState {
        Extended = 1 "LEASE_STATE_EXTENDED",
        Lost = 2 "LEASE_STATE_LOST",
        CancelRequested = 3 "LEASE_STATE_CANCEL_REQUESTED",
        PauseRequested = 4 "LEASE_STATE_PAUSE_REQUESTED",
    }
}
