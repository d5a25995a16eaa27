//! This module limits the snapshots that the server reads at the same time. A read of a snapshot can use a reader for
//! seconds, and needs several times the memory of the snapshot.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Maximum number of snapshots that the server reads at the same time: a quarter of the readers.
const READ_AT_ONCE: usize = 2;
/// Maximum number of calls that read a snapshot or wait for their turn.
const CALLS: usize = 128;

/// The reads of snapshots.
pub struct SnapshotReads {
    calls: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

/// The right to read a snapshot. The read must own the value, because a read continues after its call was cancelled.
pub struct SnapshotRead {
    _call: OwnedSemaphorePermit,
    _reading: OwnedSemaphorePermit,
}

impl Default for SnapshotReads {
    fn default() -> Self {
        Self { calls: Arc::new(Semaphore::new(CALLS)), reading: Arc::new(Semaphore::new(READ_AT_ONCE)) }
    }
}

impl SnapshotReads {
    /// Waits until the call may read a snapshot. Fails with `Error::Overloaded` if `CALLS` (128) calls already read or
    /// wait.
    pub async fn start(&self) -> Result<SnapshotRead> {
        let call = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| Error::Overloaded)?;
        let reading = Arc::clone(&self.reading).acquire_owned().await.map_err(Error::internal)?;
        Ok(SnapshotRead { _call: call, _reading: reading })
    }
}
