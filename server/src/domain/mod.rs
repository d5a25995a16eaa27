//! The things that Runhub coordinates, and their rules. No I/O: time, ids and everything stored are passed in.

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

/// Labels of a run or a task, by key.
pub type Labels = std::collections::BTreeMap<String, String>;

/// The key of a row in the database. Callers never see keys: they know things by their ids.
pub type Key = i64;
