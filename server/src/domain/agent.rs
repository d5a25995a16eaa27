//! This module defines the state that each agent role of a run saves between sessions.

use super::time::Timestamp;

/// Represents the saved state of one agent role in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct AgentState {
    pub run_id: String,
    pub role: String,
    pub session_id: Option<String>,
    pub turns: i32,
    pub rotation_count: i32,
    pub last_prompt_path: Option<String>,
    pub last_response_path: Option<String>,
    pub revision: i64,
    pub update_time: Timestamp,
}
