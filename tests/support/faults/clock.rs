//! Steps of the server's clock at random.

use std::time::Duration;

use super::Faults;
use crate::support::random::Random;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// The steps of the clock in seconds.
const STEPS: [i64; 4] = [-DAY, -HOUR, HOUR, DAY];
/// Maximum time for which the server runs after a step. A server needs up to a quarter of a second to follow a step.
const LONGEST_RUN: Duration = Duration::from_millis(500);

/// A value of `--keep-requests-for` that is longer than all steps of a test. A step forward while no server runs counts
/// as passed time, so that the server would otherwise remove the answers to requests that the test repeats.
pub const KEEP_REQUESTS_FOR: &str = "1000days";

impl Faults {
    /// Sets the clock of the server by a random step.
    pub fn step_clock_at_random(&mut self, random: &mut Random) {
        self.step_clock(STEPS[random.below(STEPS.len())]);
    }

    /// Sets the clock of the running server by a random step, and waits for a random time, so that the caller kills the
    /// server before or after the server follows the step.
    pub async fn step_clock_and_wait(&mut self, random: &mut Random) {
        self.step_clock_at_random(random);
        tokio::time::sleep(LONGEST_RUN * random.below(100) as u32 / 100).await;
    }
}
