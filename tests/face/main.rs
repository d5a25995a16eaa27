//! Tests from outside: the API over real sockets, and the binary as its users run it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// Whether the servers of these tests use PostgreSQL.
const ON_POSTGRES: bool = false;

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod bad_input;
mod broken_snapshot;
mod cli;
mod cli_flags;
mod cli_people;
mod cli_pipe;
mod cli_watch;
mod client;
mod clock;
mod coordination;
mod database_file;
mod deletion;
mod disk;
mod event;
mod event_wait;
mod house;
mod import;
mod lease_keeper;
mod log_id;
mod maintenance;
mod malformed;
mod memory;
mod oracle;
mod overload;
mod plan;
mod printable;
mod repeat;
mod retention;
mod run;
mod scenarios;
mod seed;
mod server;
mod snapshot_stream;
mod stream;
mod task;
mod unusable_file;
