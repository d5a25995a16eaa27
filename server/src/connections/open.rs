//! This module finds a connection to close when the server has too many connections.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::activity::Activity;

/// The open connections, from the oldest to the newest. The list can also contain connections that have been closed
/// since they were added.
#[derive(Default)]
pub struct OpenConnections(VecDeque<Weak<Activity>>);

impl OpenConnections {
    /// Adds a new connection. At most `max_connections` connections are open.
    pub fn add(&mut self, activity: &Arc<Activity>, max_connections: usize) {
        if self.0.len() >= 2 * max_connections {
            self.0.retain(|activity| activity.strong_count() > 0);
        }
        self.0.push_back(Arc::downgrade(activity));
    }

    /// Closes the oldest connection on which no call has been made. If there is no such connection, closes the oldest
    /// connection without an open call. Returns false if every connection has an open call.
    pub fn evict_oldest(&mut self) -> bool {
        self.evict_first(|activity| !activity.is_used()) || self.evict_first(Activity::is_idle)
    }

    fn evict_first(&mut self, is_evictable: impl Fn(&Activity) -> bool) -> bool {
        for index in 0..self.0.len() {
            if let Some(activity) = self.0.get(index).and_then(Weak::upgrade)
                && is_evictable(&activity)
            {
                self.0.remove(index);
                activity.evict();
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::Frames;
    use super::*;

    fn use_connection(activity: &Activity) {
        activity.record_received(&Frames { count: 1, calls: 1, small: 1 }, false).unwrap();
    }

    #[test]
    fn unused_connections_are_evicted_before_idle_connections() {
        let mut open = OpenConnections::default();
        let mut connections: Vec<_> = (0..5).map(|_| Arc::<Activity>::default()).collect();
        connections.iter().for_each(|activity| open.add(activity, 5));
        use_connection(&connections[0]);
        use_connection(&connections[1]);
        let call = connections[0].open_call();
        connections.remove(2);
        assert!(open.evict_oldest() && open.evict_oldest(), "the fourth and the fifth connection are unused");
        assert!(open.evict_oldest(), "the second connection is idle");
        assert!(!open.evict_oldest(), "the first connection has an open call");
        drop(call);
        assert!(open.evict_oldest());
    }

    #[test]
    fn list_does_not_grow_without_limit() {
        let mut open = OpenConnections::default();
        for _ in 0..100 {
            open.add(&Arc::default(), 4);
        }
        assert!(open.0.len() <= 8);
    }
}
