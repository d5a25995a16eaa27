//! Long tests: many agents at once, a model of the rules, crashes, real work. cargo runs them after `face`, so they do not
//! slow it down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod coordination;
mod crash;
mod crash_coordination;
mod many;
mod model;
mod real_work;
mod stream;
