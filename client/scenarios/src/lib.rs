//! This crate runs scenarios, which every client must pass. The crate contains the test server, and the runner for the
//! Rust client.
//!
//! client/scenarios/README.md describes the scenarios, and the requirements for a runner in another language.

mod background;
mod json;
mod matching;
mod nginx;
mod proxy;
mod runner;
mod scenario;
mod test_server;

pub use runner::{TargetServer, run_scenario};
pub use scenario::Scenario;
pub use test_server::TestServer;
