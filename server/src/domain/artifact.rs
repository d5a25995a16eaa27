//! What agents leave behind.

use super::Key;
use super::json::Json;
use super::time::Timestamp;

/// A note of something that lies elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto has them.
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
