//! The tests of `storms` that hold for both databases, with servers on PostgreSQL, and the tests of several servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// Whether the servers of these tests use PostgreSQL.
const ON_POSTGRES: bool = true;

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod claim_index;
mod concurrency;
mod coordination;
mod killed_servers;
mod model;
mod servers;
mod stopped_server;

/// The other tests of streams are about memory and connections, or break the SQLite file.
mod stream {
    mod idle;
    mod large_snapshot;
    mod random_watchers;
    mod subscribe_race;
}
