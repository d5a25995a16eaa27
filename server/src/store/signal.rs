//! What a commit means to those who wait. It is said after the commit and says only that it is worth looking again:
//! what there is to see always comes from the store.

use crate::domain::Key;
use crate::domain::time::Timestamp;

/// Something that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// So many tasks of a run can be claimed that could not be before.
    Ready {
        /// The run.
        run_key: Key,
        /// How many.
        tasks: usize,
    },
    /// A task with paths is no longer held.
    PathsFreed {
        /// Of its run.
        repo_path: String,
    },
    /// The status of a run has changed.
    RunMoved(Key),
    /// An approval is no longer pending.
    Decided(Key),
    /// Something falls due at this time.
    Due(Timestamp),
}

/// Hears what was committed.
pub type Listener = Box<dyn Fn(&[Signal]) + Send + Sync>;
