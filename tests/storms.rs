//! The long ones: many at once, crashes, real work. cargo runs them after the face, not beside it.

mod support;

#[path = "storms/crash.rs"]
mod crash;
#[path = "storms/many.rs"]
mod many;
#[path = "storms/real_work.rs"]
mod real_work;
