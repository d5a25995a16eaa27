//! What waits for the writer: a bounded queue in two lanes. What keeps agents at their work (signs of life, and the end
//! of some work) goes before what brings new work.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{JobOptions, Lane as LaneName, Limit};
use crate::error::{Error, Result};

/// Beyond so many waiting calls in its lane the next is refused at once: those there wait long enough.
pub const CALLS: usize = 4_096;
/// The same in bytes of their requests.
pub const BYTES: usize = 64 * 1024 * 1024;

/// Of what is taken at once, one in so many is of the second lane if somebody waits there: it must come on too.
const ONE_IN: usize = 8;

/// Filled by many, emptied by one.
pub struct Queue<T> {
    lanes: Mutex<Lanes<T>>,
    filled: Condvar,
}

struct Lanes<T> {
    first: Lane<T>,
    second: Lane<T>,
    is_closed: bool,
    /// Who empties it sleeps: to wake it takes a system call.
    is_awaited: bool,
}

struct Lane<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Lane<T> {
    fn push(&mut self, item: T, ticket: JobOptions) -> Result<()> {
        // One alone is never too large.
        let is_full = self.items.len() >= CALLS || (self.bytes + ticket.bytes > BYTES && !self.items.is_empty());
        if is_full && !ticket.is_exempt {
            return Err(Error::Overloaded);
        }
        self.bytes += ticket.bytes;
        self.items.push_back((item, ticket.bytes));
        Ok(())
    }

    /// Takes as long as there is room in both; the last one may be larger than what is left.
    fn take(&mut self, room: &mut Limit, into: &mut Vec<T>) {
        while room.rows > 0
            && room.bytes > 0
            && let Some((item, bytes)) = self.items.pop_front()
        {
            self.bytes -= bytes;
            *room = Limit { rows: room.rows - 1, bytes: room.bytes.saturating_sub(bytes) };
            into.push(item);
        }
    }
}

impl<T> Queue<T> {
    /// An empty one.
    pub fn new() -> Self {
        let lanes = Lanes { first: Lane::default(), second: Lane::default(), is_closed: false, is_awaited: false };
        Self { lanes: Mutex::new(lanes), filled: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        // Nothing panics with it.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something at the end of its lane.
    ///
    /// # Errors
    /// Its lane is full (OVERLOADED), or the queue is closed (DRAINING).
    pub fn push(&self, item: T, ticket: JobOptions) -> Result<()> {
        let mut lanes = self.lock();
        if lanes.is_closed {
            return Err(Error::Draining);
        }
        let lane = match ticket.lane {
            LaneName::First => &mut lanes.first,
            LaneName::Normal => &mut lanes.second,
        };
        lane.push(item, ticket)?;
        if lanes.is_awaited {
            lanes.is_awaited = false;
            drop(lanes);
            self.filled.notify_one();
        }
        Ok(())
    }

    /// How much waits.
    pub fn len(&self) -> usize {
        let lanes = self.lock();
        lanes.first.items.len() + lanes.second.items.len()
    }

    /// Takes nothing more in.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_one();
    }

    /// Closes it and drops what waits: nobody will take it.
    pub fn abandon(&self) {
        self.close();
        let mut lanes = self.lock();
        // Dropped outside the lock: what waits may do anything when it goes.
        let left = (std::mem::take(&mut lanes.first), std::mem::take(&mut lanes.second));
        drop(lanes);
        drop(left);
    }

    /// Waits until there is something; None when it is closed and empty.
    pub fn wait(&self) -> Option<()> {
        let mut lanes = self.lock();
        while lanes.first.items.is_empty() && lanes.second.items.is_empty() {
            if lanes.is_closed {
                return None;
            }
            lanes.is_awaited = true;
            lanes = self.filled.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
        lanes.is_awaited = false;
        Some(())
    }

    /// Takes up to so much, in the order in which it is to be served.
    pub fn take(&self, most: Limit) -> Vec<T> {
        let mut lanes = self.lock();
        let mut taken = Vec::with_capacity(most.rows.min(lanes.first.items.len() + lanes.second.items.len()));
        let mut room = most;
        let kept = if lanes.second.items.is_empty() { 0 } else { most.rows / ONE_IN };
        room.rows -= kept;
        lanes.first.take(&mut room, &mut taken);
        room.rows += kept;
        // However large the first were.
        room.bytes = room.bytes.max(most.bytes / ONE_IN);
        lanes.second.take(&mut room, &mut taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: JobOptions = JobOptions { lane: LaneName::First, is_exempt: false, bytes: 1 };
    const SECOND: JobOptions = JobOptions { lane: LaneName::Normal, ..FIRST };

    fn up_to(rows: usize) -> Limit {
        Limit { rows, bytes: usize::MAX }
    }

    fn large(bytes: usize) -> JobOptions {
        JobOptions { bytes, ..SECOND }
    }

    #[test]
    fn the_first_lane_goes_first_and_each_keeps_its_order() {
        let queue = Queue::new();
        for (item, ticket) in [(3, SECOND), (1, FIRST), (4, SECOND), (2, FIRST)] {
            queue.push(item, ticket).unwrap();
        }
        assert_eq!(queue.take(up_to(100)), [1, 2, 3, 4]);
        assert!(queue.take(up_to(100)).is_empty());
    }

    #[test]
    fn the_second_lane_comes_on_beside_a_busy_first() {
        let queue = Queue::new();
        (0..100).for_each(|item| queue.push(item, FIRST).unwrap());
        (100..110).for_each(|item| queue.push(item, SECOND).unwrap());
        let taken = queue.take(up_to(16));
        assert_eq!((taken.len(), taken.iter().filter(|item| **item >= 100).count()), (16, 2));
    }

    #[test]
    fn what_is_taken_at_once_is_bounded_in_bytes_too() {
        let queue = Queue::new();
        (0..9).for_each(|item| queue.push(item, large(300)).unwrap());
        let most = Limit { rows: 100, bytes: 1_000 };
        assert_eq!(queue.take(most), [0, 1, 2, 3], "until there is no room left");
        (10..19).for_each(|item| queue.push(item, JobOptions { lane: LaneName::First, ..large(300) }).unwrap());
        assert_eq!(queue.take(most), [10, 11, 12, 13, 4], "and one of the second lane");
        queue.push(20, large(5_000)).unwrap();
        assert_eq!((queue.take(most).len(), queue.take(most).len()), (5, 4), "one is taken however large it is");
        assert_eq!(queue.take(most), [20]);
    }

    #[test]
    fn the_servers_own_is_never_refused() {
        let queue = Queue::new();
        (0..CALLS).for_each(|item| queue.push(item, FIRST).unwrap());
        assert_eq!(queue.push(0, FIRST), Err(Error::Overloaded));
        assert_eq!(queue.push(CALLS, JobOptions::SERVER_FIRST), Ok(()));
        assert_eq!(queue.take(up_to(usize::MAX)).last(), Some(&CALLS));
    }

    #[test]
    fn a_full_lane_refuses_and_the_other_does_not() {
        let queue = Queue::new();
        (0..CALLS).for_each(|item| queue.push(item, SECOND).unwrap());
        assert_eq!(queue.push(0, SECOND), Err(Error::Overloaded));
        assert_eq!(queue.push(0, FIRST), Ok(()));
        queue.take(up_to(9));
        assert_eq!(queue.push(0, SECOND), Ok(()));
    }

    #[test]
    fn large_requests_fill_it_too_but_one_alone_is_taken() {
        let queue = Queue::new();
        assert_eq!(queue.push(0, large(BYTES + 1)), Ok(()));
        assert_eq!(queue.push(0, large(1)), Err(Error::Overloaded));
        queue.take(up_to(1));
        assert_eq!(queue.push(0, large(BYTES)), Ok(()));
        assert_eq!(queue.push(0, large(1)), Err(Error::Overloaded));
    }

    #[test]
    fn what_was_taken_in_before_the_end_is_served() {
        let queue = Queue::new();
        queue.push(1, SECOND).unwrap();
        queue.close();
        assert_eq!(queue.push(2, FIRST), Err(Error::Draining));
        assert_eq!((queue.wait(), queue.take(up_to(9)), queue.wait()), (Some(()), vec![1], None));
    }
}
