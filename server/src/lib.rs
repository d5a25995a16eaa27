//! This crate is the Runhub server, as a library for the binary `runhub` and for the tests.
//!
//! The layers are `cli` → `server` → `rpc` → `actions` → `store` → `domain`. A layer may use the layers to its right
//! and must not use the layers to its left.

pub mod actions;
pub mod cli;
pub mod clock;
pub mod config;
mod connections;
pub mod domain;
pub mod error;
pub mod housekeeping;
pub mod rpc;
pub mod server;
pub mod store;
pub mod sweeper;
pub mod wake;
pub mod watch;
