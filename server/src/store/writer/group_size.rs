//! This module chooses the maximum size of the writer's groups.

use std::time::Duration;

use crate::store::Limit;

/// Maximum size of a group: 128 calls, or 1 MiB of requests. Larger groups add latency and no throughput.
pub const LARGEST_GROUP: Limit = Limit { rows: 128, bytes: 1024 * 1024 };

/// Number of calls that a group can always contain, so that slow transaction bodies also share commits.
const SMALLEST_GROUP: usize = 16;

/// Maximum ratio of the expected duration of a group's transaction bodies to the duration of a commit. A larger group
/// saves little time, because its bodies already take most of the time. A smaller group is faster: while the writer
/// runs the next group, the callers of the previous group get their responses and send their next calls. With 64 agents
/// that claim and complete tasks, the ratio 3 yields a tenth more calls than groups of any size.
const BODIES_PER_COMMIT: u32 = 3;

/// Number of groups over which the durations are averaged.
const AVERAGED_GROUPS: u32 = 8;

/// Chooses the size of the next group from the durations of the earlier groups.
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
        let bodies = (self.commit * BODIES_PER_COMMIT).as_nanos().checked_div(self.body.as_nanos());
        let rows = bodies.and_then(|bodies| usize::try_from(bodies).ok()).unwrap_or(LARGEST_GROUP.rows);
        Limit { rows: rows.clamp(SMALLEST_GROUP, LARGEST_GROUP.rows), ..LARGEST_GROUP }
    }

    /// Records how long the `calls` transaction bodies of a group and the commit of the group have taken.
    pub fn record(&mut self, calls: usize, bodies: Duration, commit: Duration) {
        let calls = u32::try_from(calls.max(1)).unwrap_or(u32::MAX);
        self.body = average(self.body, bodies / calls);
        self.commit = average(self.commit, commit);
    }
}

fn average(average: Duration, newest: Duration) -> Duration {
    (average * (AVERAGED_GROUPS - 1) + newest) / AVERAGED_GROUPS
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_micros(300);

    fn size_after(body: Duration, commit: Duration) -> usize {
        let mut size = GroupSize::default();
        (0..100).for_each(|_| size.record(10, body * 10, commit));
        size.limit().rows
    }

    #[test]
    fn first_group_has_largest_size() {
        assert_eq!(GroupSize::default().limit().rows, LARGEST_GROUP.rows);
    }

    #[test]
    fn slow_bodies_make_groups_smaller_and_slow_commits_make_groups_larger() {
        // The average is rounded, so the sizes are only close to 3 * 300 µs / 30 µs and 3 * 900 µs / 30 µs.
        assert!((29..=31).contains(&size_after(Duration::from_micros(30), COMMIT)));
        assert!((88..=92).contains(&size_after(Duration::from_micros(30), 3 * COMMIT)));
        assert_eq!(size_after(Duration::from_micros(5), COMMIT), LARGEST_GROUP.rows);
        assert_eq!(size_after(Duration::from_millis(5), COMMIT), SMALLEST_GROUP);
        assert_eq!(size_after(Duration::ZERO, COMMIT), LARGEST_GROUP.rows);
    }

    #[test]
    fn one_slow_group_is_soon_forgotten() {
        let mut size = GroupSize::default();
        (0..100).for_each(|_| size.record(100, Duration::from_micros(500), COMMIT));
        size.record(1, Duration::from_millis(200), COMMIT);
        assert_eq!(size.limit().rows, SMALLEST_GROUP);
        (0..100).for_each(|_| size.record(16, Duration::from_micros(80), COMMIT));
        assert_eq!(size.limit().rows, LARGEST_GROUP.rows);
    }
}
