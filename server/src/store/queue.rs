//! What waits for the writer: a bounded queue in two lanes. What keeps agents at their work (signs of life, and the end
//! of some work) goes before what brings new work.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Ticket;
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
    fn push(&mut self, item: T, bytes: usize) -> Result<()> {
        // One alone is never too large.
        let is_full = self.items.len() == CALLS || (self.bytes + bytes > BYTES && !self.items.is_empty());
        if is_full {
            return Err(Error::Overloaded);
        }
        self.bytes += bytes;
        self.items.push_back((item, bytes));
        Ok(())
    }

    fn take(&mut self, most: usize, into: &mut Vec<T>) {
        for (item, bytes) in self.items.drain(..most.min(self.items.len())) {
            self.bytes -= bytes;
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
    pub fn push(&self, item: T, ticket: Ticket) -> Result<()> {
        let mut lanes = self.lock();
        if lanes.is_closed {
            return Err(Error::Draining);
        }
        let lane = if ticket.is_first { &mut lanes.first } else { &mut lanes.second };
        lane.push(item, ticket.bytes)?;
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

    /// Takes up to so many, in the order in which they are to be served.
    pub fn take(&self, most: usize) -> Vec<T> {
        let mut lanes = self.lock();
        let left = lanes.second.items.len().min(most / ONE_IN);
        let mut taken = Vec::with_capacity(most.min(lanes.first.items.len() + lanes.second.items.len()));
        lanes.first.take(most - left, &mut taken);
        let room = most - taken.len();
        lanes.second.take(room, &mut taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Ticket = Ticket { is_first: true, bytes: 1 };
    const SECOND: Ticket = Ticket { is_first: false, bytes: 1 };

    #[test]
    fn the_first_lane_goes_first_and_each_keeps_its_order() {
        let queue = Queue::new();
        for (item, ticket) in [(3, SECOND), (1, FIRST), (4, SECOND), (2, FIRST)] {
            queue.push(item, ticket).unwrap();
        }
        assert_eq!(queue.take(100), [1, 2, 3, 4]);
        assert!(queue.take(100).is_empty());
    }

    #[test]
    fn the_second_lane_comes_on_beside_a_busy_first() {
        let queue = Queue::new();
        (0..100).for_each(|item| queue.push(item, FIRST).unwrap());
        (100..110).for_each(|item| queue.push(item, SECOND).unwrap());
        let taken = queue.take(16);
        assert_eq!((taken.len(), taken.iter().filter(|item| **item >= 100).count()), (16, 2));
    }

    #[test]
    fn a_full_lane_refuses_and_the_other_does_not() {
        let queue = Queue::new();
        (0..CALLS).for_each(|item| queue.push(item, SECOND).unwrap());
        assert_eq!(queue.push(0, SECOND), Err(Error::Overloaded));
        assert_eq!(queue.push(0, FIRST), Ok(()));
        queue.take(9);
        assert_eq!(queue.push(0, SECOND), Ok(()));
    }

    #[test]
    fn large_requests_fill_it_too_but_one_alone_is_taken() {
        let queue = Queue::new();
        let large = |bytes| Ticket { is_first: false, bytes };
        assert_eq!(queue.push(0, large(BYTES + 1)), Ok(()));
        assert_eq!(queue.push(0, large(1)), Err(Error::Overloaded));
        queue.take(1);
        assert_eq!(queue.push(0, large(BYTES)), Ok(()));
        assert_eq!(queue.push(0, large(1)), Err(Error::Overloaded));
    }

    #[test]
    fn what_was_taken_in_before_the_end_is_served() {
        let queue = Queue::new();
        queue.push(1, SECOND).unwrap();
        queue.close();
        assert_eq!(queue.push(2, FIRST), Err(Error::Draining));
        assert_eq!((queue.wait(), queue.take(9), queue.wait()), (Some(()), vec![1], None));
    }
}
