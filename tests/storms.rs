//! The long ones: many at once, a model, crashes, real work. cargo runs them after the face, not beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "storms/coordination.rs"]
mod coordination;
#[path = "storms/crash.rs"]
mod crash;
#[path = "storms/crash_coordination.rs"]
mod crash_coordination;
#[path = "storms/many.rs"]
mod many;
#[path = "storms/model/mod.rs"]
mod model;
#[path = "storms/real_work.rs"]
mod real_work;
#[path = "storms/stream/mod.rs"]
mod stream;
