//! Transaction bodies, one file for each noun.
//!
//! Each function loads what it needs, lets `domain` decide, saves the result, appends the events, and signals
//! the changes that may wake held calls. RPCs, sweeper and importers share these functions. A body may run more than once before it commits,
//! so it does nothing but use its `tx`.

pub mod agent;
pub mod approval;
pub mod artifact;
pub mod attempt;
pub mod cancel;
pub mod checkpoint;
pub mod claim;
pub mod event;
pub mod lease;
pub mod log;
pub mod obstacle;
pub mod paths;
pub mod plan;
#[cfg(test)]
mod query_plans;
pub mod run;
pub mod snapshot;
pub mod task;

use crate::error::Error;

/// The result of a transaction that commits.
///
/// A body that fails returns an error instead, which rolls back what it wrote.
#[derive(Debug)]
pub enum Outcome<T, E = Error> {
    /// The call was carried out.
    Done(T),
    /// The call was rejected, and the event that records the rejection must be committed.
    Rejected(E),
}

impl<T, E> Outcome<T, E> {
    /// Returns the result that the caller receives.
    pub fn into_result(self) -> Result<T, E> {
        match self {
            Self::Done(result) => Ok(result),
            Self::Rejected(error) => Err(error),
        }
    }
}
