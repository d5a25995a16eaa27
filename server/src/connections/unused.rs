//! This module finds a connection to close when the server has too many connections.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::activity::Activity;

/// The connections on which no call has been made, from the oldest to the newest. The list can also contain
/// connections that have been used or closed since they were added.
#[derive(Default)]
pub struct UnusedConnections(VecDeque<Weak<Activity>>);

impl UnusedConnections {
    /// Adds a new connection. At most `max_connections` connections are open.
    pub fn add(&mut self, activity: &Arc<Activity>, max_connections: usize) {
        if self.0.len() >= 2 * max_connections {
            self.0.retain(|activity| activity.upgrade().is_some_and(|activity| !activity.is_used()));
        }
        self.0.push_back(Arc::downgrade(activity));
    }

    /// Closes the oldest connection on which no call has been made. Returns false if there is no such connection.
    pub fn evict_oldest(&mut self) -> bool {
        while let Some(oldest) = self.0.pop_front() {
            if let Some(activity) = oldest.upgrade()
                && !activity.is_used()
            {
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

    #[test]
    fn oldest_unused_connection_is_evicted() {
        let mut unused = UnusedConnections::default();
        let connections: Vec<_> = (0..4).map(|_| Arc::<Activity>::default()).collect();
        connections.iter().for_each(|activity| unused.add(activity, 4));
        connections[0].record_received(&Frames { count: 1, calls: 1, small: 1 }, false).unwrap();
        let closed = drop_first(connections, 2);
        assert!(unused.evict_oldest() && unused.evict_oldest());
        assert!(!unused.evict_oldest(), "the first connection is used and the second is closed");
        drop(closed);
    }

    /// Closes the second of the connections and returns the others.
    fn drop_first(mut connections: Vec<Arc<Activity>>, number: usize) -> Vec<Arc<Activity>> {
        connections.remove(number - 1);
        connections
    }

    #[test]
    fn list_does_not_grow_without_limit() {
        let mut unused = UnusedConnections::default();
        for _ in 0..100 {
            unused.add(&Arc::default(), 4);
        }
        assert!(unused.0.len() <= 8);
    }
}
