//! The Runhub server: its parts, for the one binary `runhub` and for the tests.
//!
//! `cli` → `server` → `rpc` → `store` → `domain`: each uses what stands after it, never what stands before.

pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod error;
pub mod rpc;
pub mod server;
pub mod store;
pub mod sweeper;
pub mod watch;
