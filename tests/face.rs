//! The public face: the API over real sockets, and the binary as its users run it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "face/bad_input.rs"]
mod bad_input;
#[path = "face/broken_snapshot.rs"]
mod broken_snapshot;
#[path = "face/cli.rs"]
mod cli;
#[path = "face/cli_people.rs"]
mod cli_people;
#[path = "face/cli_watch.rs"]
mod cli_watch;
#[path = "face/client.rs"]
mod client;
#[path = "face/coordination/mod.rs"]
mod coordination;
#[path = "face/deletion.rs"]
mod deletion;
#[path = "face/event.rs"]
mod event;
#[path = "face/event_wait.rs"]
mod event_wait;
#[path = "face/house.rs"]
mod house;
#[path = "face/import.rs"]
mod import;
#[path = "face/lease_keeper.rs"]
mod lease_keeper;
#[path = "face/oracle.rs"]
mod oracle;
#[path = "face/overload.rs"]
mod overload;
#[path = "face/plan.rs"]
mod plan;
#[path = "face/repeat.rs"]
mod repeat;
#[path = "face/retention.rs"]
mod retention;
#[path = "face/run.rs"]
mod run;
#[path = "face/scenarios.rs"]
mod scenarios;
#[path = "face/seed/mod.rs"]
mod seed;
#[path = "face/server.rs"]
mod server;
#[path = "face/snapshot_stream.rs"]
mod snapshot_stream;
#[path = "face/stream.rs"]
mod stream;
#[path = "face/task.rs"]
mod task;
