//! This module lets the writer hold back new reads until the running reads have ended. SQLite can write over the
//! write-ahead log only when no read needs the log, and with enough reads there would never be such a moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Counts the running reads, and holds back new reads while the gate is closed.
#[derive(Debug, Default)]
pub struct ReadGate {
    state: Mutex<State>,
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    running: usize,
}

/// A running read. Dropping this value ends the read.
#[derive(Debug)]
pub struct RunningRead(Arc<ReadGate>);

impl ReadGate {
    /// Waits until the gate is open, and begins a read.
    pub async fn enter(self: &Arc<Self>) -> RunningRead {
        loop {
            // Create the future before the check. Otherwise the read would miss an opening directly after the check.
            let opened = self.opened.notified();
            if self.try_enter() {
                return RunningRead(Arc::clone(self));
            }
            opened.await;
        }
    }

    fn try_enter(&self) -> bool {
        let mut state = self.lock();
        if !state.is_closed {
            state.running += 1;
        }
        !state.is_closed
    }

    /// Holds back new reads, and returns whether no read is running.
    pub fn close(&self) -> bool {
        let mut state = self.lock();
        state.is_closed = true;
        state.running == 0
    }

    /// Returns whether new reads are held back.
    #[cfg(test)]
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Lets new reads begin.
    pub fn open(&self) {
        self.lock().is_closed = false;
        self.opened.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunningRead {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn closed_gate_holds_back_new_reads_until_it_is_opened() {
        let gate = Arc::new(ReadGate::default());
        let running = gate.enter().await;
        assert!(!gate.close(), "a read is running");
        let mut waiting = Box::pin(gate.enter());
        assert!((&mut waiting).now_or_never().is_none());
        drop(running);
        assert!(gate.close());
        gate.open();
        drop(waiting.await);
        assert!(gate.close());
    }
}
