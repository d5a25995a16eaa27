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
    /// A run has ended or is being ended.
    RunEnded(Key),
    /// A call with a request_id was answered: whoever makes the same call can have the answer.
    Answered {
        /// Of the RPC.
        rpc: &'static str,
        /// As the caller set it.
        request_id: String,
    },
    /// An approval is no longer pending.
    Decided(Key),
    /// Something falls due at this time.
    Due(Timestamp),
}

/// Hears what was committed.
pub type Listener = Box<dyn Fn(&[Signal]) + Send + Sync>;
