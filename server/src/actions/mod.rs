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
pub mod claim_index;
pub mod deletion;
pub mod event;
pub mod idle_claims;
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

use self::paths::Undecided;
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
    /// The work exceeds the limit of one transaction. The caller does the work that the value names, and runs the
    /// transaction again. The changes of the transaction are committed.
    Postponed(Postponed),
}

impl<T, E> Outcome<T, E> {
    /// Applies `map` to the value of a call that succeeded.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Outcome<U, E> {
        match self {
            Self::Done(value) => Outcome::Done(map(value)),
            Self::Rejected(error) => Outcome::Rejected(error),
            Self::Postponed(work) => Outcome::Postponed(work),
        }
    }
}

/// The work that a caller must do before the caller runs a transaction again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Postponed {
    /// Load the claim index.
    Load,
    /// Compare path sets outside the transaction.
    Undecided(Undecided),
    /// The caller has no work to do. The transaction has done a part of the work, and the next transaction continues.
    Again,
}
