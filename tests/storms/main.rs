//! Long tests: many clients at once, a model, crashes, real work. Cargo runs them after `face`, not in parallel with
//! it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// Whether the servers of these tests use PostgreSQL.
const ON_POSTGRES: bool = false;

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod claim_index;
mod concurrency;
mod coordination;
mod crash;
mod crash_coordination;
mod model;
mod power_cut;
mod real_work;
mod stopped_server;
mod stream;
