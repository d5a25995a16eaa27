//! The tests of `face` that hold for both databases, with servers on PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// Whether the servers of these tests use PostgreSQL.
const ON_POSTGRES: bool = true;

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod cli;
mod cli_people;
mod cli_pipe;
mod cli_watch;
mod client;
mod clock;
mod coordination;
mod database_tls;
mod deletion;
mod event;
mod event_wait;
mod lease_keeper;
mod log_id;
mod malformed;
mod memory;
mod migrate;
mod oracle;
mod overload;
mod plan;
mod repeat;
mod retention;
mod run;
mod scenarios;
mod seed;
mod server;
mod snapshot_stream;
mod stream;
mod task;
