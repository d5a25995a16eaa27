//! Watchers by the dozen, the hundred and the thousand: what they are promised, and what they cost.

mod crash;
mod dead;
mod hand_over;
mod idle;
mod slow;
mod torture;
