//! This module defines artifacts, which refer to results that agents store outside Runhub.

use super::Key;
use super::json::Json;
use super::time::Timestamp;

/// Represents a reference to a result that is stored outside Runhub.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct Artifact {
    pub key: Key,
    pub id: String,
    pub run_id: String,
    pub task_id: Option<String>,
    pub role: Option<String>,
    pub kind: String,
    pub path: String,
    pub metadata: Json,
    pub create_time: Timestamp,
}

/// Contains the fields of an artifact that a caller creates.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The proto documents them.
pub struct ArtifactDraft {
    pub run_id: String,
    pub task_id: Option<String>,
    pub role: Option<String>,
    pub kind: String,
    pub path: String,
    pub metadata: Json,
}

impl Artifact {
    /// Returns a new artifact with the fields of `draft` and the creation time `now`.
    pub fn new(key: Key, id: String, draft: ArtifactDraft, now: Timestamp) -> Self {
        Self {
            key,
            id,
            run_id: draft.run_id,
            task_id: draft.task_id,
            role: draft.role,
            kind: draft.kind,
            path: draft.path,
            metadata: draft.metadata,
            create_time: now,
        }
    }
}
