//! What an orchestrator needs to go on from where it was.

use super::Key;
use super::json::Json;
use super::run::RunStatus;
use super::time::Timestamp;

/// A saved point of a run. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto has them.
pub struct Checkpoint {
    pub key: Key,
    pub id: String,
    pub run_id: String,
    pub status: RunStatus,
    pub payload: Json,
    pub position: i64,
    pub create_time: Timestamp,
}
