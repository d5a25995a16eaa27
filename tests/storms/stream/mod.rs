//! Dozens, hundreds and thousands of watchers: the promises they get, and what they cost.

mod crash;
mod frozen;
mod idle;
mod large_snapshot;
mod random_watchers;
mod slow;
mod subscribe_race;
mod unread_events;
