//! What is coordinated, and the rules. No I/O: time, ids and everything stored are passed in.

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
pub mod system_event;
pub mod task;
pub mod time;

/// Free key-value pairs of a run or a task.
pub type Labels = std::collections::BTreeMap<String, String>;

/// Which row this is, for the server only: callers know a thing by its id.
pub type Key = i64;
