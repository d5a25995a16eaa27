//! The writer's queue: bounded, in two lanes. Calls that keep agents at work or free tasks (`Lane::First`) are served
//! before calls that bring new work.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Limit;
use crate::error::{Error, Result};

/// Maximum number of queued calls per lane. Further calls are refused with OVERLOADED.
pub const MAX_CALLS: usize = 4_096;
/// Maximum size of the queued requests per lane, in bytes. Further calls are refused with OVERLOADED.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// One in this number of calls taken at once comes from `Lane::Normal` if calls wait there, so that a busy `Lane::First`
/// cannot starve it.
const NORMAL_SHARE: usize = 8;

/// How a transaction waits in the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// The lane that the transaction waits in.
    pub lane: Lane,
    /// The queue never refuses the transaction: it is the server's own, or belongs to a call that was admitted before and
    /// has waited.
    pub is_exempt: bool,
    /// Size in bytes of the request that is held in memory while the transaction waits.
    pub bytes: usize,
}

/// A lane of the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lane {
    /// Served before the other lane: calls that keep agents at work or free tasks.
    First,
    /// All other calls.
    #[default]
    Normal,
}

impl JobOptions {
    /// For the server's own transactions that agents wait for, such as taking back expired leases.
    pub const SERVER_FIRST: Self = Self { lane: Lane::First, is_exempt: true, bytes: 0 };
    /// For the server's own transactions that nobody waits for, such as retention.
    pub const SERVER: Self = Self { lane: Lane::Normal, is_exempt: true, bytes: 0 };
}

/// A queue that many threads fill and one thread empties.
pub struct Queue<T> {
    lanes: Mutex<Lanes<T>>,
    filled: Condvar,
}

struct Lanes<T> {
    first: LaneItems<T>,
    normal: LaneItems<T>,
    is_closed: bool,
    /// The emptying thread sleeps. Only then is a notification necessary, which takes a system call.
    is_awaited: bool,
}

struct LaneItems<T> {
    /// Each item with its size in bytes.
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
        // An empty lane accepts a request of any size, because otherwise it could never be served.
        let has_room_for_bytes = self.items.is_empty() || self.bytes + options.bytes <= MAX_BYTES;
        let is_full = self.items.len() >= MAX_CALLS || !has_room_for_bytes;
        if is_full && !options.is_exempt {
            return Err(Error::Overloaded);
        }
        self.bytes += options.bytes;
        self.items.push_back((item, options.bytes));
        Ok(())
    }

    /// Moves items to `taken` while `room` has rows and bytes left. The last item may exceed the bytes left.
    fn take(&mut self, room: &mut Limit, taken: &mut Vec<T>) {
        while room.rows > 0
            && room.bytes > 0
            && let Some((item, bytes)) = self.items.pop_front()
        {
            self.bytes -= bytes;
            room.rows -= 1;
            room.bytes = room.bytes.saturating_sub(bytes);
            taken.push(item);
        }
    }
}

impl<T> Queue<T> {
    /// Makes an empty queue.
    pub fn new() -> Self {
        let lanes =
            Lanes { first: LaneItems::default(), normal: LaneItems::default(), is_closed: false, is_awaited: false };
        Self { lanes: Mutex::new(lanes), filled: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        // No code panics while it holds the lock.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item to its lane.
    ///
    /// # Errors
    /// `Overloaded` if the lane is full, `Draining` if the queue is closed.
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

    /// Returns the number of queued items.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Closes the queue: it accepts nothing more, and the items in it can still be taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_one();
    }

    /// Closes the queue and drops its items, because no thread will take them.
    pub fn abandon(&self) {
        self.close();
        let mut lanes = self.lock();
        let first = std::mem::take(&mut lanes.first);
        let normal = std::mem::take(&mut lanes.normal);
        // Release the lock before the items are dropped: dropping one may run any code.
        drop(lanes);
        drop(first);
        drop(normal);
    }

    /// Waits until the queue holds an item. Returns None once the queue is closed and empty.
    pub fn wait(&self) -> Option<()> {
        let mut lanes = self.lock();
        while lanes.len() == 0 {
            if lanes.is_closed {
                return None;
            }
            lanes.is_awaited = true;
            lanes = self.filled.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
        lanes.is_awaited = false;
        Some(())
    }

    /// Takes items up to a limit, in the order in which they are to be served.
    pub fn take(&self, most: Limit) -> Vec<T> {
        let mut lanes = self.lock();
        let mut taken = Vec::with_capacity(most.rows.min(lanes.len()));
        let mut room = most;
        let reserved = if lanes.normal.items.is_empty() { 0 } else { most.rows / NORMAL_SHARE };
        room.rows -= reserved;
        lanes.first.take(&mut room, &mut taken);
        room.rows += reserved;
        // The normal lane gets its share of bytes even if the first lane has used them all.
        room.bytes = room.bytes.max(most.bytes / NORMAL_SHARE);
        lanes.normal.take(&mut room, &mut taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: JobOptions = JobOptions { lane: Lane::First, is_exempt: false, bytes: 1 };
    const NORMAL: JobOptions = JobOptions { lane: Lane::Normal, ..FIRST };

    fn up_to(rows: usize) -> Limit {
        Limit { rows, bytes: usize::MAX }
    }

    fn large(bytes: usize) -> JobOptions {
        JobOptions { bytes, ..NORMAL }
    }

    #[test]
    fn first_lane_is_served_first_and_each_lane_keeps_its_order() {
        let queue = Queue::new();
        for (item, options) in [(3, NORMAL), (1, FIRST), (4, NORMAL), (2, FIRST)] {
            queue.push(item, options).unwrap();
        }
        assert_eq!(queue.take(up_to(100)), [1, 2, 3, 4]);
        assert!(queue.take(up_to(100)).is_empty());
    }

    #[test]
    fn busy_first_lane_does_not_starve_normal_lane() {
        let queue = Queue::new();
        (0..100).for_each(|item| queue.push(item, FIRST).unwrap());
        (100..110).for_each(|item| queue.push(item, NORMAL).unwrap());
        let taken = queue.take(up_to(16));
        assert_eq!((taken.len(), taken.iter().filter(|item| **item >= 100).count()), (16, 2));
    }

    #[test]
    fn take_is_bounded_in_bytes() {
        let queue = Queue::new();
        (0..9).for_each(|item| queue.push(item, large(300)).unwrap());
        let most = Limit { rows: 100, bytes: 1_000 };
        assert_eq!(queue.take(most), [0, 1, 2, 3], "up to the item that exceeds the limit");
        (10..19).for_each(|item| queue.push(item, JobOptions { lane: Lane::First, ..large(300) }).unwrap());
        assert_eq!(queue.take(most), [10, 11, 12, 13, 4], "one item of the normal lane is taken as well");
        queue.push(20, large(5_000)).unwrap();
        assert_eq!((queue.take(most).len(), queue.take(most).len()), (5, 4), "an item is taken however large it is");
        assert_eq!(queue.take(most), [20]);
    }

    #[test]
    fn exempt_job_is_never_refused() {
        let queue = Queue::new();
        (0..MAX_CALLS).for_each(|item| queue.push(item, FIRST).unwrap());
        assert_eq!(queue.push(0, FIRST), Err(Error::Overloaded));
        assert_eq!(queue.push(MAX_CALLS, JobOptions::SERVER_FIRST), Ok(()));
        assert_eq!(queue.take(up_to(usize::MAX)).last(), Some(&MAX_CALLS));
    }

    #[test]
    fn full_lane_refuses_and_other_lane_accepts() {
        let queue = Queue::new();
        (0..MAX_CALLS).for_each(|item| queue.push(item, NORMAL).unwrap());
        assert_eq!(queue.push(0, NORMAL), Err(Error::Overloaded));
        assert_eq!(queue.push(0, FIRST), Ok(()));
        queue.take(up_to(9));
        assert_eq!(queue.push(0, NORMAL), Ok(()));
    }

    #[test]
    fn large_requests_fill_lane_but_empty_lane_accepts_any_size() {
        let queue = Queue::new();
        assert_eq!(queue.push(0, large(MAX_BYTES + 1)), Ok(()));
        assert_eq!(queue.push(0, large(1)), Err(Error::Overloaded));
        queue.take(up_to(1));
        assert_eq!(queue.push(0, large(MAX_BYTES)), Ok(()));
        assert_eq!(queue.push(0, large(1)), Err(Error::Overloaded));
    }

    #[test]
    fn item_queued_before_close_is_served() {
        let queue = Queue::new();
        queue.push(1, NORMAL).unwrap();
        queue.close();
        assert_eq!(queue.push(2, FIRST), Err(Error::Draining));
        assert_eq!((queue.wait(), queue.take(up_to(9)), queue.wait()), (Some(()), vec![1], None));
    }
}
