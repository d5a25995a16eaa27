//! This module defines the servers that share a database.

use super::time::Timestamp;

/// A living server. The proto documents the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Server {
    pub id: String,
    pub address: Option<String>,
    pub version: String,
    pub start_time: Timestamp,
    pub alive_time: Timestamp,
    pub is_sweeper: bool,
}
