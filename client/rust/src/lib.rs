//! This crate is the Rust client of Runhub. The crate is a thin layer over the generated stubs.
//!
//! Call [`Client::connect`] once and share clones of the client. Each RPC is a method that takes a request and returns
//! a response or an [`Error`]. Match the [`Reason`] of the error to handle a refused call. Until the deadline of a
//! call, the client retries the call while the server restarts or is overloaded.
//!
//! - [`Client::subscribe`] returns a stream of events without a gap or a duplicate. The stream resumes after broken
//!   connections and restarts of the server.
//! - [`Client::keep_lease`] renews the lease of a claimed task during the attempt. If the lease is lost,
//!   [`LeaseKeeper::run`] drops the future of the attempt.
//! - [`repeat_for`] retries any call that fails with a temporary error.

mod calls;
mod connect;
mod connections;
mod error;
mod lease;
mod repeat;
mod subscription;

pub use connect::Client;
pub use error::{Error, Reason};
pub use lease::{LeaseKeeper, LeaseLost};
pub use repeat::repeat_for;
pub use runhub_api::{Json, v1};
pub use subscription::{Interruption, Subscription, Update};
