//! This module chooses the maximum size of the writer's groups.

use std::time::Duration;

use crate::store::Limit;

/// Maximum size of a group: 128 calls, or 1 MiB of requests. Larger groups add latency and no throughput.
const LARGEST_GROUP: Limit = Limit { rows: 128, bytes: 1024 * 1024 };

/// Minimum limit of the number of calls in a group, so that slow transaction bodies also share commits. With 64 agents
/// that claim and complete tasks, the limits 12 and 16 yield the most calls, and the limit 8 yields a sixth fewer.
const SMALLEST_GROUP: usize = 16;

/// Number of groups over which the durations are averaged.
const AVERAGED_GROUPS: u32 = 8;

/// Chooses the size of the next group from the durations of the earlier groups. The size is the number of bodies that
/// are expected to take as long as one commit. A larger group saves little time, because its bodies already take most
/// of the time. A smaller group is faster: while the writer runs the next group, the callers of the previous group get
/// their responses and send their next calls. With 64 agents that claim and complete tasks, this rule yields a tenth
/// more calls than groups whose bodies take three times as long as a commit.
#[derive(Debug, Default)]
pub struct GroupSize {
    /// Average duration of one transaction body.
    body: Duration,
    /// Average duration of a commit.
    commit: Duration,
}

impl GroupSize {
    /// Returns the maximum size of the next group.
    pub fn limit(&self) -> Limit {
        let rows = self.commit.as_nanos().checked_div(self.body.as_nanos());
        let rows = rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(LARGEST_GROUP.rows);
        Limit { rows: rows.clamp(SMALLEST_GROUP, LARGEST_GROUP.rows), ..LARGEST_GROUP }
    }

    /// Records the durations of a group that has changed the database.
    pub fn record(&mut self, bodies: &BodyTimes, commit: Duration) {
        if let Some(body) = bodies.typical() {
            self.body = update_average(self.body, body);
        }
        self.commit = update_average(self.commit, commit);
    }
}

fn update_average(average: Duration, newest: Duration) -> Duration {
    (average * (AVERAGED_GROUPS - 1) + newest) / AVERAGED_GROUPS
}

/// The durations of the transaction bodies of one group.
#[derive(Debug, Default)]
pub struct BodyTimes {
    calls: u32,
    total: Duration,
    longest: Duration,
}

impl BodyTimes {
    /// Adds the duration of one transaction body.
    pub fn add(&mut self, body: Duration) {
        self.calls += 1;
        self.total += body;
        self.longest = self.longest.max(body);
    }

    /// Returns the average duration without the longest body, or None if the group has only one body. A long body, such
    /// as a part of a deletion, must not make the groups of the short bodies smaller.
    fn typical(&self) -> Option<Duration> {
        (self.total - self.longest).checked_div(self.calls.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_micros(300);

    fn record(size: &mut GroupSize, bodies: &[Duration], commit: Duration) {
        let mut times = BodyTimes::default();
        bodies.iter().for_each(|body| times.add(*body));
        size.record(&times, commit);
    }

    fn size_after(bodies: &[Duration], commit: Duration) -> usize {
        let mut size = GroupSize::default();
        (0..100).for_each(|_| record(&mut size, bodies, commit));
        size.limit().rows
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn first_group_has_largest_size() {
        assert_eq!(GroupSize::default().limit().rows, LARGEST_GROUP.rows);
    }

    #[test]
    fn slow_bodies_make_groups_smaller_and_slow_commits_make_groups_larger() {
        // The average is rounded, so the sizes are only close to 300 µs / 10 µs and 900 µs / 10 µs.
        assert!((29..=31).contains(&size_after(&[micros(10); 10], COMMIT)));
        assert!((88..=92).contains(&size_after(&[micros(10); 10], 3 * COMMIT)));
        assert_eq!(size_after(&[micros(2); 10], COMMIT), LARGEST_GROUP.rows);
        assert_eq!(size_after(&[micros(5_000); 10], COMMIT), SMALLEST_GROUP);
        assert_eq!(size_after(&[Duration::ZERO; 10], COMMIT), LARGEST_GROUP.rows);
    }

    #[test]
    fn one_long_body_in_each_group_changes_nothing() {
        let mut bodies = vec![micros(2); 15];
        bodies.push(micros(10_000));
        assert_eq!(size_after(&bodies, COMMIT), LARGEST_GROUP.rows);
        assert_eq!(size_after(&[micros(10_000)], COMMIT), LARGEST_GROUP.rows);
    }

    #[test]
    fn slow_group_is_soon_forgotten() {
        let mut size = GroupSize::default();
        record(&mut size, &[micros(100_000); 2], COMMIT);
        assert_eq!(size.limit().rows, SMALLEST_GROUP);
        (0..100).for_each(|_| record(&mut size, &[micros(2); 16], COMMIT));
        assert_eq!(size.limit().rows, LARGEST_GROUP.rows);
    }
}
