//! This module defines checkpoints, from which an orchestrator resumes a run.

use super::Key;
use super::json::Json;
use super::run::RunStatus;
use super::time::Timestamp;

/// Represents a saved state of a run. A checkpoint never changes after its creation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct Checkpoint {
    pub key: Key,
    pub id: String,
    pub run_id: String,
    pub status: RunStatus,
    pub payload: Json,
    pub position: i64,
    pub create_time: Timestamp,
}
