//! Artifacts: references to the results of agents.

use super::Key;
use super::json::Json;
use super::time::Timestamp;

/// A reference to something that is stored elsewhere.
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

/// An artifact as a caller creates it.
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
    /// Returns a new artifact.
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
