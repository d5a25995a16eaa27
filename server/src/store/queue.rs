//! This module contains the writer's queue, which is bounded and has two lanes. Heartbeats, reports that end an
//! attempt, run control and approval decisions wait in `Lane::First`, which is served before `Lane::Normal`.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Limit;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};

/// Maximum number of queued calls per lane. Further calls are refused with OVERLOADED.
pub const MAX_CALLS: usize = 4_096;
/// Maximum total size in bytes of the queued requests per lane. Further calls are refused with OVERLOADED.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Divisor for the share of each group of calls that is reserved for `Lane::Normal`. The divisor 8 reserves one eighth
/// of the calls and bytes of a group. Without the reservation, a busy `Lane::First` could starve `Lane::Normal`.
const NORMAL_SHARE: usize = 8;

/// Specifies how a transaction waits in the writer's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// Lane in which the transaction waits.
    pub lane: Lane,
    /// If the queue must never refuse the transaction, the value is true. The server's own transactions are exempt.
    /// Calls that were admitted earlier and have already waited are also exempt.
    pub is_exempt: bool,
    /// Size in bytes of the request, which stays in memory while the transaction waits. The value is 0 for the server's
    /// own transactions.
    pub bytes: usize,
    /// Start of the time without writes after which the transaction extends the leases. After a full disk, the writer
    /// runs no transaction before one whose time without writes starts early enough. If the transaction extends no
    /// leases, the value is None.
    pub recovers_since: Option<Timestamp>,
}

/// Specifies a lane of the writer's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lane {
    /// Lane for heartbeats, reports that end an attempt, run control and approval decisions. This lane is served before
    /// `Lane::Normal`.
    First,
    /// Lane for all calls that do not belong to `Lane::First`.
    #[default]
    Normal,
}

/// The result of waiting for an item of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The queue holds an item.
    Filled,
    /// The queue is empty, and the time has passed.
    Idle,
    /// The queue is closed and empty.
    Closed,
}

impl JobOptions {
    /// Options for the server's own transactions that agents wait for, such as the expiry of leases.
    pub const SERVER_FIRST: Self = Self { lane: Lane::First, is_exempt: true, bytes: 0, recovers_since: None };
    /// Options for the server's own transactions that no agent waits for, such as retention.
    pub const SERVER: Self = Self { lane: Lane::Normal, is_exempt: true, bytes: 0, recovers_since: None };

    /// Returns the options for the transaction that extends the leases after the server has written nothing since
    /// `since`.
    pub fn recovering_since(since: Timestamp) -> Self {
        Self { recovers_since: Some(since), ..Self::SERVER_FIRST }
    }
}

/// Holds items that producer threads push and one consumer thread takes.
pub struct Queue<T> {
    lanes: Mutex<Lanes<T>>,
    filled: Condvar,
}

struct Lanes<T> {
    first: LaneItems<T>,
    normal: LaneItems<T>,
    is_closed: bool,
    /// True while the consumer thread waits for an item. `push` notifies only a waiting thread, because a notification
    /// costs a system call.
    is_awaited: bool,
}

struct LaneItems<T> {
    /// Queued items, each with its size in bytes.
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Default for LaneItems<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Lanes<T> {
    fn len(&self) -> usize {
        self.first.items.len() + self.normal.items.len()
    }
}

impl<T> LaneItems<T> {
    fn push(&mut self, item: T, options: JobOptions) -> Result<()> {
        // An empty lane accepts a request larger than `MAX_BYTES`, because the server could otherwise never serve the
        // request.
        let has_room_for_bytes = self.items.is_empty() || self.bytes + options.bytes <= MAX_BYTES;
        let is_full = self.items.len() >= MAX_CALLS || !has_room_for_bytes;
        if is_full && !options.is_exempt {
            return Err(Error::Overloaded);
        }
        self.bytes += options.bytes;
        self.items.push_back((item, options.bytes));
        Ok(())
    }

    /// Moves items of the lane to `taken` until `remaining` allows no further item or no further byte. The last moved
    /// item may be larger than the remaining bytes.
    fn take(&mut self, remaining: &mut Limit, taken: &mut Vec<T>) {
        while remaining.rows > 0
            && remaining.bytes > 0
            && let Some((item, bytes)) = self.items.pop_front()
        {
            self.bytes -= bytes;
            remaining.rows -= 1;
            remaining.bytes = remaining.bytes.saturating_sub(bytes);
            taken.push(item);
        }
    }
}

impl<T> Queue<T> {
    /// Creates an empty queue.
    pub fn new() -> Self {
        let lanes =
            Lanes { first: LaneItems::default(), normal: LaneItems::default(), is_closed: false, is_awaited: false };
        Self { lanes: Mutex::new(lanes), filled: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        // The lock can't be poisoned, because no thread panics while the thread holds the lock.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item to the lane that `options` specifies. Fails with `Overloaded` if the lane is full, and with
    /// `Draining` if the queue is closed.
    pub fn push(&self, item: T, options: JobOptions) -> Result<()> {
        let mut lanes = self.lock();
        if lanes.is_closed {
            return Err(Error::Draining);
        }
        let lane = match options.lane {
            Lane::First => &mut lanes.first,
            Lane::Normal => &mut lanes.normal,
        };
        lane.push(item, options)?;
        if lanes.is_awaited {
            lanes.is_awaited = false;
            drop(lanes);
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Returns the number of items in both lanes.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Closes the queue. A closed queue refuses new items, but the queued items can still be taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_one();
    }

    /// Closes the queue and drops all queued items, because no thread will take the items.
    pub fn abandon(&self) {
        self.close();
        let mut lanes = self.lock();
        let first = std::mem::take(&mut lanes.first);
        let normal = std::mem::take(&mut lanes.normal);
        // Release the lock before dropping the items, because the destructor of an item can run arbitrary code, which
        // must not run under the lock.
        drop(lanes);
        drop(first);
        drop(normal);
    }

    /// Waits until the queue holds an item or is closed, but at most for the time `at_most`.
    pub fn wait(&self, at_most: Duration) -> Waited {
        let mut lanes = self.lock();
        if lanes.len() == 0 && !lanes.is_closed {
            lanes.is_awaited = true;
            let waited = self.filled.wait_timeout_while(lanes, at_most, |lanes| lanes.len() == 0 && !lanes.is_closed);
            lanes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        lanes.is_awaited = false;
        match (lanes.len(), lanes.is_closed) {
            (1.., _) => Waited::Filled,
            (0, true) => Waited::Closed,
            (0, false) => Waited::Idle,
        }
    }

    /// Takes items up to the limit `most`. Returns the items of `Lane::First` before the items of `Lane::Normal`, and
    /// the items of each lane in queue order.
    pub fn take(&self, most: Limit) -> Vec<T> {
        let mut lanes = self.lock();
        let mut taken = Vec::with_capacity(most.rows.min(lanes.len()));
        let mut remaining = most;
        let reserved = if lanes.normal.items.is_empty() { 0 } else { most.rows / NORMAL_SHARE };
        remaining.rows -= reserved;
        lanes.first.take(&mut remaining, &mut taken);
        remaining.rows += reserved;
        // Reserve a share of the bytes for `Lane::Normal`. Otherwise large requests in `Lane::First` could starve
        // `Lane::Normal`.
        remaining.bytes = remaining.bytes.max(most.bytes / NORMAL_SHARE);
        lanes.normal.take(&mut remaining, &mut taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: JobOptions = JobOptions { lane: Lane::First, is_exempt: false, bytes: 1, recovers_since: None };
    const NORMAL: JobOptions = JobOptions { lane: Lane::Normal, ..FIRST };

    fn create_row_limit(rows: usize) -> Limit {
        Limit { rows, bytes: usize::MAX }
    }

    fn create_options(bytes: usize) -> JobOptions {
        JobOptions { bytes, ..NORMAL }
    }

    #[test]
    fn first_lane_is_served_first_and_lanes_keep_push_order() {
        let queue = Queue::new();
        for (item, options) in [(3, NORMAL), (1, FIRST), (4, NORMAL), (2, FIRST)] {
            queue.push(item, options).unwrap();
        }
        assert_eq!(queue.take(create_row_limit(100)), [1, 2, 3, 4]);
        assert!(queue.take(create_row_limit(100)).is_empty());
    }

    #[test]
    fn busy_first_lane_does_not_starve_normal_lane() {
        let queue = Queue::new();
        (0..100).for_each(|item| queue.push(item, FIRST).unwrap());
        (100..110).for_each(|item| queue.push(item, NORMAL).unwrap());
        let taken = queue.take(create_row_limit(16));
        assert_eq!((taken.len(), taken.iter().filter(|item| **item >= 100).count()), (16, 2));
    }

    #[test]
    fn take_is_limited_by_bytes() {
        let queue = Queue::new();
        (0..9).for_each(|item| queue.push(item, create_options(300)).unwrap());
        let most = Limit { rows: 100, bytes: 1_000 };
        assert_eq!(queue.take(most), [0, 1, 2, 3], "up to the item that exceeds the limit");
        (10..19).for_each(|item| queue.push(item, JobOptions { lane: Lane::First, ..create_options(300) }).unwrap());
        assert_eq!(queue.take(most), [10, 11, 12, 13, 4], "one item of the normal lane is taken as well");
        queue.push(20, create_options(5_000)).unwrap();
        assert_eq!((queue.take(most).len(), queue.take(most).len()), (5, 4), "an item larger than the limit is taken");
        assert_eq!(queue.take(most), [20]);
    }

    #[test]
    fn exempt_job_is_never_refused() {
        let queue = Queue::new();
        (0..MAX_CALLS).for_each(|item| queue.push(item, FIRST).unwrap());
        assert_eq!(queue.push(0, FIRST), Err(Error::Overloaded));
        assert_eq!(queue.push(MAX_CALLS, JobOptions::SERVER_FIRST), Ok(()));
        assert_eq!(queue.take(create_row_limit(usize::MAX)).last(), Some(&MAX_CALLS));
    }

    #[test]
    fn full_lane_refuses_and_other_lane_accepts() {
        let queue = Queue::new();
        (0..MAX_CALLS).for_each(|item| queue.push(item, NORMAL).unwrap());
        assert_eq!(queue.push(0, NORMAL), Err(Error::Overloaded));
        assert_eq!(queue.push(0, FIRST), Ok(()));
        queue.take(create_row_limit(9));
        assert_eq!(queue.push(0, NORMAL), Ok(()));
    }

    #[test]
    fn large_requests_fill_lane_but_empty_lane_accepts_any_size() {
        let queue = Queue::new();
        assert_eq!(queue.push(0, create_options(MAX_BYTES + 1)), Ok(()));
        assert_eq!(queue.push(0, create_options(1)), Err(Error::Overloaded));
        queue.take(create_row_limit(1));
        assert_eq!(queue.push(0, create_options(MAX_BYTES)), Ok(()));
        assert_eq!(queue.push(0, create_options(1)), Err(Error::Overloaded));
    }

    #[test]
    fn item_queued_before_close_is_served() {
        let queue = Queue::new();
        queue.push(1, NORMAL).unwrap();
        queue.close();
        assert_eq!(queue.push(2, FIRST), Err(Error::Draining));
        assert_eq!(queue.wait(Duration::ZERO), Waited::Filled);
        assert_eq!(queue.take(create_row_limit(9)), [1]);
        assert_eq!(queue.wait(Duration::from_secs(60)), Waited::Closed);
    }
}
