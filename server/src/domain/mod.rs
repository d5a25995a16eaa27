//! This module defines runs, tasks and the other resources that Runhub coordinates, and the rules for these resources.
//! The code in this module performs no I/O: callers pass the time, new ids and stored data.

#[macro_use]
pub mod code;

pub mod agent;
pub mod approval;
pub mod artifact;
pub mod attempt;
pub mod checkpoint;
pub mod event;
pub mod field;
pub mod glob;
pub mod json;
pub mod lease;
pub mod limits;
pub mod obstacle;
pub mod plan;
pub mod run;
pub mod server;
pub mod system_event;
pub mod task;
pub mod time;

/// The labels of a run or a task: a map from label keys to label values.
pub type Labels = std::collections::BTreeMap<String, String>;

/// The key of a row in the database. Keys are internal, and the API uses ids instead.
pub type Key = i64;
