//! The Rust client of Runhub: a thin layer over the generated stubs.
//!
//! Call [`Client::connect`] once and clone the client freely. Every RPC is a method that takes a request and returns a
//! response, or an [`Error`] with a [`Reason`] to match on. Until its deadline, a call is repeated while the server restarts
//! or is overloaded.
//!
//! - [`Client::subscribe`] returns a stream of events that resumes after broken connections and restarts of the server,
//!   without a gap or a duplicate.
//! - [`Client::keep_lease`] keeps the lease of a claimed task during the work, and ends the work if the lease is lost.
//! - [`repeat_for`] repeats any call in the same way.

mod calls;
mod connect;
mod error;
mod lease;
mod repeat;
mod subscription;

pub use connect::Client;
pub use error::{Error, Reason};
pub use lease::{LeaseKeeper, LeaseLost};
pub use repeat::repeat_for;
pub use runhub_api::{Json, v1};
pub use subscription::{Subscription, Update};
