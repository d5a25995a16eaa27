//! This module limits the calls whose responses can be much larger than other responses.

use runhub_api::Rpc;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::budget::{ConnectionBudget, Reservation};
use crate::error::{Error, Result};

/// Maximum number of large responses that the server creates at the same time. While the server creates a response, the
/// call needs several times the memory of the response.
const CREATED_AT_ONCE: usize = 2;
/// Maximum number of calls that wait or create their large response.
const CALLS: usize = 64;

/// The calls that create large responses.
pub struct LargeResponses {
    calls: Semaphore,
    creating: Semaphore,
}

/// The right to create a large response.
pub struct LargeResponse<'a> {
    _call: SemaphorePermit<'a>,
    _creating: SemaphorePermit<'a>,
    /// The memory of the largest response of the RPC.
    pub reservation: Reservation,
}

impl LargeResponses {
    /// Returns an empty set of calls.
    pub fn new() -> Self {
        Self { calls: Semaphore::new(CALLS), creating: Semaphore::new(CREATED_AT_ONCE) }
    }

    /// Waits until a call may create its response, and reserves the memory of the largest response. Returns None if the
    /// RPC has no large responses. Fails with `Error::Overloaded` if too many calls wait, or if the memory can't be
    /// reserved.
    pub async fn reserve(&self, rpc: &Rpc, budget: &ConnectionBudget) -> Result<Option<LargeResponse<'_>>> {
        let Some(bytes) = rpc.max_response_bytes else {
            return Ok(None);
        };
        let call = self.calls.try_acquire().map_err(|_| Error::Overloaded)?;
        let creating = self.creating.acquire().await.map_err(Error::internal)?;
        // Reserve the memory last, so that a call that waits holds no memory.
        let reservation = budget.reserve_response(bytes).ok_or(Error::Overloaded)?;
        Ok(Some(LargeResponse { _call: call, _creating: creating, reservation }))
    }
}
