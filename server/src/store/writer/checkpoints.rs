//! This module decides when the writer copies the write-ahead log into the database file.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::store::session::WriteSession;

/// Time from a checkpoint that failed until the next one. A checkpoint copies up to 16 MiB and can fail after each
/// byte, so a checkpoint after each group would take most of the writer's time while the disk is full.
const RETRY: Duration = Duration::from_secs(1);

/// Time without calls after which the writer does the work for which no call waits.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// Time after which the writer tries a due checkpoint again that waits until no read is running.
const READ_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Decides when a session runs a checkpoint that is due.
#[derive(Debug, Default)]
pub(super) struct CheckpointScheduler {
    /// If a checkpoint was due after the previous group and has not run, the value is true.
    is_postponed: bool,
    /// Time before which the next checkpoint must not run. If the last checkpoint succeeded, the value is None.
    retry_at: Option<Instant>,
}

impl CheckpointScheduler {
    /// Runs a due checkpoint. If calls are queued, the checkpoint waits until the next group is committed. Otherwise,
    /// calls that have waited for a long transaction would also wait until all pages of this transaction are copied.
    /// Fails only if the database file can't be used any more. After any other failure, the commits stay in the
    /// write-ahead log, and the function tries again later.
    pub fn run_if_due(&mut self, session: &mut impl WriteSession, has_queued_calls: bool) -> Result<()> {
        let is_due = session.is_checkpoint_due();
        if !is_due || (has_queued_calls && !self.is_postponed) {
            self.is_postponed = is_due;
            return Ok(());
        }
        if self.retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            return Ok(());
        }
        let result = session.checkpoint();
        self.is_postponed = false;
        self.record(result)
    }

    /// Returns the time after which the writer must look for work again if no call is queued before.
    pub fn pause(&self, session: &mut impl WriteSession) -> Duration {
        if self.retry_at.is_none() && session.is_checkpoint_due() { READ_CHECK_INTERVAL } else { IDLE }
    }

    fn record(&mut self, result: Result<()>) -> Result<()> {
        match result {
            Ok(()) => self.retry_at = None,
            Err(failed) if failed.is_store_failure() => return Err(failed),
            Err(error) => {
                // A full disk lasts, so only the first of several failures is logged.
                if self.retry_at.is_none() {
                    tracing::warn!(%error, retry_seconds = RETRY.as_secs(), "checkpoint failed");
                }
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
        Ok(())
    }
}
