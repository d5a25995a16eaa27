//! The Rust client of Runhub: a thin layer over the generated stubs.
//!
//! [`Client::connect`] once, clone it freely. Every RPC is a method that takes its request and returns its response
//! or an [`Error`] with a [`Reason`] to match on; it sees a call through a restart of the server, within a deadline.
//! [`Client::subscribe`] is a stream of events that survives lost connections and restarts of the server without a gap or a
//! duplicate. [`Client::keep_lease`] keeps a claimed task while it is worked on, and ends the work when it is lost.
//! [`repeat_for`] makes any call as patient.

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
