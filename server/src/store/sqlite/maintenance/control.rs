//! This module lets the caller of a long operation follow the operation and interrupt it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::MaintenanceError;

/// Number of SQLite's virtual instructions between two checks whether a statement must stop. With rows of a page each,
/// the instructions copy about 1 MiB.
const INSTRUCTIONS: i32 = 1_000;

/// The step that an operation has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The operation has copied `bytes` of `total` bytes.
    Copying {
        /// Number of copied bytes.
        bytes: u64,
        /// Number of bytes to copy.
        total: u64,
    },
    /// The operation checks that the copy is not damaged.
    Checking,
    /// The operation rewrites the database.
    Vacuuming {
        /// Largest number of bytes that the operation needs in the folder of the database until the operation ends.
        needed: u64,
    },
}

/// Connects an operation with its caller. All clones belong to the same operation.
#[derive(Clone)]
pub struct Control {
    is_interrupted: Arc<AtomicBool>,
    report: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl Control {
    /// Returns the control of one operation. The operation calls `report` for each step, thousands of times per second.
    pub fn new(report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { is_interrupted: Arc::default(), report: Arc::new(report) }
    }

    /// Asks the operation to stop. The operation then fails with `Interrupted`, and removes what it has written.
    pub fn interrupt(&self) {
        self.is_interrupted.store(true, Ordering::Relaxed);
    }

    pub(super) fn report(&self, progress: Progress) {
        (self.report)(progress);
    }

    /// Fails if the caller has interrupted the operation.
    pub(super) fn check(&self) -> Result<(), MaintenanceError> {
        match self.is_interrupted() {
            true => Err(MaintenanceError::Interrupted),
            false => Ok(()),
        }
    }

    fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }

    /// Stops the statements of a connection once the caller has interrupted the operation, and reports `progress` while
    /// they run.
    pub(super) fn watch_statements(&self, conn: &Connection, progress: Progress) -> rusqlite::Result<()> {
        let control = self.clone();
        let handler = move || {
            control.report(progress);
            control.is_interrupted()
        };
        conn.progress_handler(INSTRUCTIONS, Some(handler))
    }
}

/// Lets the statements of a connection run to their end again.
pub fn stop_watching(conn: &Connection) -> rusqlite::Result<()> {
    conn.progress_handler(0, None::<fn() -> bool>)
}
