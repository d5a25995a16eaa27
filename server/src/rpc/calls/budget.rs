//! This module limits the memory for requests that are incomplete or being served and for responses that are not sent
//! yet. A client decides how long such a message stays in memory, so the number of callers does not limit the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Maximum size of a small message, in bytes. Small messages have a share of the budget of their own, so that large
/// messages can't delay the calls of most agents.
pub const SMALL_BYTES: usize = 64 * 1024;
/// The divisor of the budget for the share of small messages, for the share of FIRST requests, and for the share of
/// each connection.
const EIGHTH: usize = 8;

/// The memory for the messages of a server, in bytes. The budget has four shares: an eighth for small messages, an
/// eighth for requests of the admission class FIRST, an eighth for large events, and the rest for all requests and
/// unary responses.
pub struct Budget {
    small: Arc<Share>,
    first: Arc<Share>,
    events: Arc<Share>,
    general: Arc<Share>,
    connection_bytes: usize,
}

impl Budget {
    /// Returns a budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let eighth = bytes / EIGHTH;
        Self {
            small: Arc::new(Share::new(eighth)),
            first: Arc::new(Share::new(eighth)),
            events: Arc::new(Share::new(eighth)),
            general: Arc::new(Share::new(bytes - 3 * eighth)),
            connection_bytes: eighth,
        }
    }

    /// Returns the budget for a new connection: at most an eighth of this budget.
    pub fn for_connection(self: &Arc<Self>) -> ConnectionBudget {
        ConnectionBudget { budget: Arc::clone(self), connection: Arc::new(Share::new(self.connection_bytes)) }
    }
}

/// The part of the budget that one connection may use. Clones share the part.
#[derive(Clone)]
pub struct ConnectionBudget {
    budget: Arc<Budget>,
    connection: Arc<Share>,
}

impl ConnectionBudget {
    /// Reserves the memory for a request. `is_first` states whether the request is of the admission class FIRST.
    /// Returns None if no share has enough bytes.
    pub fn reserve_request(&self, bytes: usize, is_first: bool) -> Option<Reservation> {
        let Budget { first, .. } = &*self.budget;
        let reserved = self.reserve_response(bytes);
        if reserved.is_none() && is_first { self.reserve_from(first, bytes) } else { reserved }
    }

    /// Reserves the memory for a response. Returns None if no share has enough bytes.
    pub fn reserve_response(&self, bytes: usize) -> Option<Reservation> {
        let Budget { small, general, .. } = &*self.budget;
        let reserved = if bytes <= SMALL_BYTES { self.reserve_from(small, bytes) } else { None };
        reserved.or_else(|| self.reserve_from(general, bytes))
    }

    /// Reserves the memory for a large event of a stream. Returns None if the share of events has not enough bytes. A
    /// stream that is not read keeps its event for any time, so events have a share of their own, and no part of the
    /// connection's eighth, which the calls on the connection need.
    pub fn reserve_event(&self, bytes: usize) -> Option<Reservation> {
        let events = &self.budget.events;
        events.reserve(bytes).then(|| Reservation { connection: None, share: Arc::clone(events), bytes })
    }

    /// Returns whether the server has memory for a response of `bytes`. Another call can reserve the memory first.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.budget.general.has_room(bytes)
    }

    fn reserve_from(&self, share: &Arc<Share>, bytes: usize) -> Option<Reservation> {
        if !self.connection.reserve(bytes) {
            return None;
        }
        if !share.reserve(bytes) {
            self.connection.release(bytes);
            return None;
        }
        Some(Reservation { connection: Some(Arc::clone(&self.connection)), share: Arc::clone(share), bytes })
    }
}

/// Reserved bytes of a budget. Dropping the value releases the bytes.
pub struct Reservation {
    connection: Option<Arc<Share>>,
    share: Arc<Share>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.connection.iter().for_each(|share| share.release(self.bytes));
        self.share.release(self.bytes);
    }
}

/// A part of a budget.
struct Share {
    bytes: usize,
    used: AtomicUsize,
}

impl Share {
    fn new(bytes: usize) -> Self {
        Self { bytes, used: AtomicUsize::new(0) }
    }

    /// Reserves bytes. Returns false, and reserves nothing, if the share has not enough free bytes.
    fn reserve(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.bytes);
        self.used.fetch_update(Relaxed, Relaxed, add).is_ok()
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.used.load(Relaxed).checked_add(bytes).is_some_and(|used| used <= self.bytes)
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn used(budget: &Budget) -> [usize; 4] {
        [&budget.small, &budget.first, &budget.events, &budget.general].map(|share| share.used.load(Relaxed))
    }

    fn reserve_all(budget: &Arc<Budget>, bytes: usize, is_first: bool) -> Vec<Reservation> {
        let mut reserved = Vec::new();
        while let Some(reservation) = budget.for_connection().reserve_request(bytes, is_first) {
            reserved.push(reservation);
        }
        reserved
    }

    #[test]
    fn large_messages_leave_the_shares_of_small_and_first_messages() {
        let budget = Arc::new(Budget::new(160 * MIB));
        let large = reserve_all(&budget, MIB, false);
        assert_eq!(large.len(), 100);
        let first = reserve_all(&budget, MIB, true);
        assert_eq!(first.len(), 20);
        let small = reserve_all(&budget, SMALL_BYTES, false);
        assert_eq!(small.len(), 20 * MIB / SMALL_BYTES);
        assert!(budget.for_connection().reserve_response(1).is_none());
        drop((large, first, small));
        assert_eq!(used(&budget), [0, 0, 0, 0]);
    }

    #[test]
    fn large_events_use_only_their_own_share() {
        let budget = Arc::new(Budget::new(160 * MIB));
        let connection = budget.for_connection();
        let events: Vec<_> = (0..20).map(|_| connection.reserve_event(MIB).unwrap()).collect();
        assert!(connection.reserve_event(1).is_none());
        assert_eq!(used(&budget), [0, 0, 20 * MIB, 0]);
        assert!(connection.reserve_response(16 * MIB).is_some());
        drop(events);
        assert_eq!(used(&budget), [0, 0, 0, 0]);
    }

    #[test]
    fn one_connection_has_at_most_an_eighth() {
        let budget = Arc::new(Budget::new(160 * MIB));
        let connection = budget.for_connection();
        let largest = connection.reserve_response(16 * MIB).unwrap();
        let rest: Vec<_> = (0..4).map(|_| connection.reserve_response(MIB).unwrap()).collect();
        assert!(connection.reserve_request(1, true).is_none());
        assert!(budget.for_connection().reserve_request(1, false).is_some());
        drop(rest);
        assert!(connection.reserve_request(1, false).is_some());
        drop(largest);
        assert_eq!(used(&budget), [0, 0, 0, 0]);
    }

    #[test]
    fn room_is_the_rest_of_the_general_share() {
        let budget = Arc::new(Budget::new(160 * MIB));
        let reserved: Vec<_> = (0..6).map(|_| budget.for_connection().reserve_response(14 * MIB).unwrap()).collect();
        assert!(budget.for_connection().has_room(16 * MIB));
        assert!(!budget.for_connection().has_room(17 * MIB));
        drop(reserved);
        assert!(budget.for_connection().has_room(100 * MIB));
    }
}
