//! Scenarios that hold for every client: the stage they are played on, and the runner for the Rust client.
//!
//! The README in this folder says what a scenario is, and what a runner in another language needs to know.

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
