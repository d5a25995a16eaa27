//! The coordination promises C2 to C9 of the design.

mod approval;
mod attempt;
mod dependency;
mod explain;
mod known_bugs;
mod lease;
mod paths;
mod run_control;
mod unclaimable;
mod wait;
