//! The long ones: many at once, a model, crashes, real work. cargo runs them after the face, not beside it.

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
