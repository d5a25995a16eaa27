//! The long ones: many at once, crashes, real work.
mod support;
