//! What the server promises of coordination, sentence by sentence: C2 to C9 of the design.

mod approval;
mod attempt;
mod dependency;
mod explain;
mod lease;
mod others_bugs;
mod paths;
mod run_control;
mod wait;
