//! The Runhub server: its parts, for the one binary `runhub` and for the tests.
//!
//! `cli` → `server` → `rpc` → `actions` → `store` → `domain`: each uses what stands after it, never what stands before.

pub mod actions;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod error;
pub mod housekeeping;
pub mod rpc;
pub mod server;
pub mod store;
pub mod sweeper;
pub mod wake;
pub mod watch;
