//! This module contains the transaction bodies of the server, with one file for each kind of resource or operation.
//!
//! Each function loads rows of the store, applies the rules in `domain`, saves the result, appends events, and signals
//! the changes that may wake held calls. The RPCs, the sweeper and the importers share these functions. The store may
//! run a transaction body more than once before the transaction commits, so a transaction body must have no effects
//! outside `tx`.

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
/// If a transaction body fails, the body returns an error instead of an outcome, and the store rolls the transaction
/// back.
#[derive(Debug)]
pub enum Outcome<T, E = Error> {
    /// The call succeeded.
    Done(T),
    /// The call was rejected, and the event that records the rejection must be committed.
    Rejected(E),
}

impl<T, E> Outcome<T, E> {
    /// Returns the result for the caller: the value of a call that succeeded, or the error of a rejected call.
    pub fn into_result(self) -> Result<T, E> {
        match self {
            Self::Done(result) => Ok(result),
            Self::Rejected(error) => Err(error),
        }
    }
}
