//! Scenarios that every client must pass: the stage they are played on, and the runner for the Rust client.
//!
//! The README in this folder describes scenarios, and what a runner in another language must do.

mod background;
mod json;
mod matching;
mod player;
mod proxy;
mod scenario;
mod stage;

pub use player::{Place, play};
pub use scenario::Scenario;
pub use stage::Stage;
