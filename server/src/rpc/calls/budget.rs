//! This module limits the memory for requests that the server has not decoded yet and for responses that are not sent
//! yet. A client decides how long such a message stays in memory, so the number of callers does not limit the memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prost::bytes::Bytes;

/// Maximum size of a small message, in bytes. Small messages have a share of the budget of their own, so that large
/// messages can't delay the calls of most agents.
pub const SMALL_BYTES: usize = 64 * 1024;
/// The divisor of the budget for the share of small messages, for the share of FIRST calls, for the share of large
/// events, and for the part of the general share that one connection may use.
const SHARE_DIVISOR: usize = 8;
/// The divisor of the share of small messages, and of the share of FIRST calls, for the part that one connection may
/// use.
const CONNECTION_DIVISOR: usize = 4;

/// The memory for the messages of a server, in bytes. The budget has four shares: an eighth for small messages, an
/// eighth for calls of the admission class FIRST, an eighth for large events, and the rest for all requests and unary
/// responses.
pub struct Budget {
    small: Arc<Share>,
    first: Arc<Share>,
    events: Arc<EventShare>,
    general: Arc<Share>,
    /// Maximum number of bytes of the general share that one connection may use.
    connection_bytes: usize,
}

impl Budget {
    /// Returns a budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let eighth = bytes / SHARE_DIVISOR;
        Self {
            small: Arc::new(Share::new(eighth)),
            first: Arc::new(Share::new(eighth)),
            events: Arc::new(EventShare::new(eighth)),
            general: Arc::new(Share::new(bytes - 3 * eighth)),
            connection_bytes: eighth,
        }
    }

    /// Returns the budget for a new connection: at most an eighth of this budget from the general share, and at most a
    /// quarter of the share of small messages and of the share of FIRST calls.
    pub fn for_connection(self: &Arc<Self>) -> ConnectionBudget {
        ConnectionBudget {
            small: self.small.for_connection(self.small.bytes / CONNECTION_DIVISOR),
            first: self.first.for_connection(self.first.bytes / CONNECTION_DIVISOR),
            general: self.general.for_connection(self.connection_bytes),
            events: Arc::clone(&self.events),
        }
    }
}

/// The parts of the budget that one connection may use. Clones share the parts.
#[derive(Clone)]
pub struct ConnectionBudget {
    small: ConnectionShare,
    first: ConnectionShare,
    general: ConnectionShare,
    events: Arc<EventShare>,
}

impl ConnectionBudget {
    /// Reserves the memory for a request or a unary response. `is_first` states whether the call is of the admission
    /// class FIRST. Returns None if no share has enough bytes.
    pub fn reserve(&self, bytes: usize, is_first: bool) -> Option<Reservation> {
        let small = if bytes <= SMALL_BYTES { self.small.reserve(bytes) } else { None };
        let reserved = small.or_else(|| self.general.reserve(bytes));
        if reserved.is_none() && is_first { self.first.reserve(bytes) } else { reserved }
    }

    /// Reserves the memory for a large event of a stream. Streams that send the same bytes share the reservation.
    /// Returns None if the share of events has not enough bytes. A stream that is not read keeps its event for any
    /// time, so events have a share of their own, and use no part of the connection's shares, which the calls on the
    /// connection need.
    pub fn reserve_event(&self, event: &Bytes) -> Option<Arc<EventReservation>> {
        self.events.reserve(event)
    }

    /// Returns whether the connection has memory for a response of `bytes`. Another call can reserve the memory first.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.general.share.has_room(bytes) && self.general.connection.has_room(bytes)
    }
}

/// A share of the budget, and the part of the share that one connection may use. Clones share the part.
#[derive(Clone)]
struct ConnectionShare {
    share: Arc<Share>,
    connection: Arc<Share>,
}

impl ConnectionShare {
    fn reserve(&self, bytes: usize) -> Option<Reservation> {
        if !self.connection.reserve(bytes) {
            return None;
        }
        if !self.share.reserve(bytes) {
            self.connection.release(bytes);
            return None;
        }
        Some(Reservation { connection: Some(Arc::clone(&self.connection)), share: Arc::clone(&self.share), bytes })
    }
}

/// The share of large events.
struct EventShare {
    share: Arc<Share>,
    /// The reservations by the address of the event. Watchers that follow the log share the bytes of an event.
    reserved: Mutex<HashMap<usize, Weak<EventReservation>>>,
}

/// The memory of a large event, which is reserved once for all streams that send the event.
pub struct EventReservation {
    /// The event, so that no other event can have its address.
    _event: Bytes,
    events: Arc<EventShare>,
    _reservation: Reservation,
}

impl EventShare {
    fn new(bytes: usize) -> Self {
        Self { share: Arc::new(Share::new(bytes)), reserved: Mutex::default() }
    }

    fn reserve(self: &Arc<Self>, event: &Bytes) -> Option<Arc<EventReservation>> {
        let mut reserved = self.lock();
        if let Some(shared) = reserved.get(&address(event)).and_then(Weak::upgrade) {
            return Some(shared);
        }
        let share = &self.share;
        let reservation = share.reserve(event.len()).then(|| Reservation {
            connection: None,
            share: Arc::clone(share),
            bytes: event.len(),
        })?;
        let shared = EventReservation { _event: event.clone(), events: Arc::clone(self), _reservation: reservation };
        let shared = Arc::new(shared);
        reserved.insert(address(event), Arc::downgrade(&shared));
        Some(shared)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Weak<EventReservation>>> {
        // Ignore lock poisoning, because no code panics while it holds the lock.
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(event: &Bytes) -> usize {
    event.as_ptr() as usize
}

impl Drop for EventReservation {
    fn drop(&mut self) {
        let address = address(&self._event);
        let mut reserved = self.events.lock();
        // Another stream may have reserved memory for the event since the last owner dropped this value.
        if reserved.get(&address).is_some_and(|reservation| reservation.strong_count() == 0) {
            reserved.remove(&address);
        }
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

    /// Returns this share for a new connection that may use `bytes` of the share.
    fn for_connection(self: &Arc<Self>, bytes: usize) -> ConnectionShare {
        ConnectionShare { share: Arc::clone(self), connection: Arc::new(Self::new(bytes)) }
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
        [&budget.small, &budget.first, &budget.events.share, &budget.general].map(|share| share.used.load(Relaxed))
    }

    fn reserve_all(budget: &Arc<Budget>, bytes: usize, is_first: bool) -> Vec<Reservation> {
        let mut reserved = Vec::new();
        while let Some(reservation) = budget.for_connection().reserve(bytes, is_first) {
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
        assert!(budget.for_connection().reserve(1, true).is_none());
        drop((large, first, small));
        assert_eq!(used(&budget), [0, 0, 0, 0]);
    }

    #[test]
    fn large_events_use_only_their_own_share() {
        let budget = Arc::new(Budget::new(160 * MIB));
        let connection = budget.for_connection();
        let events: Vec<_> = (0..20).map(|_| connection.reserve_event(&vec![0; MIB].into()).unwrap()).collect();
        assert!(connection.reserve_event(&Bytes::from_static(&[1])).is_none());
        assert_eq!(used(&budget), [0, 0, 20 * MIB, 0]);
        assert!(connection.reserve(16 * MIB, false).is_some());
        drop(events);
        assert_eq!(used(&budget), [0, 0, 0, 0]);
    }

    #[test]
    fn streams_share_the_memory_of_an_event() {
        let budget = Arc::new(Budget::new(160 * MIB));
        let event = Bytes::from(vec![0; MIB]);
        let mut streams: Vec<_> = (0..100).map(|_| budget.for_connection().reserve_event(&event).unwrap()).collect();
        assert_eq!(used(&budget), [0, 0, MIB, 0]);
        streams.truncate(1);
        assert_eq!(used(&budget), [0, 0, MIB, 0]);
        let copy = Bytes::copy_from_slice(&event);
        let other = budget.for_connection().reserve_event(&copy).unwrap();
        assert_eq!(used(&budget), [0, 0, 2 * MIB, 0]);
        drop((streams, other));
        assert_eq!(used(&budget), [0, 0, 0, 0]);
        assert!(budget.events.lock().is_empty());
    }

    #[test]
    fn one_connection_has_a_part_of_each_share() {
        let budget = Arc::new(Budget::new(160 * MIB));
        let connection = budget.for_connection();
        let fill = |bytes, is_first| {
            let reserved = std::iter::from_fn(|| connection.reserve(bytes, is_first));
            reserved.collect::<Vec<_>>()
        };
        let large = fill(4 * MIB, false);
        assert_eq!(large.len(), 5, "an eighth");
        let first = fill(MIB, true);
        assert_eq!(first.len(), 5, "a quarter of an eighth");
        let small = fill(SMALL_BYTES, false);
        assert_eq!(small.len(), 5 * MIB / SMALL_BYTES, "a quarter of an eighth");
        assert!(connection.reserve(1, true).is_none());
        for (bytes, is_first) in [(1, false), (4 * MIB, false), (4 * MIB, true)] {
            assert!(budget.for_connection().reserve(bytes, is_first).is_some(), "another connection");
        }
        drop((large, first, small));
        assert_eq!(used(&budget), [0, 0, 0, 0]);
    }

    #[test]
    fn room_is_the_rest_of_the_general_share() {
        let budget = Arc::new(Budget::new(160 * MIB));
        let reserved: Vec<_> = (0..6).map(|_| budget.for_connection().reserve(14 * MIB, false).unwrap()).collect();
        assert!(budget.for_connection().has_room(16 * MIB));
        assert!(!budget.for_connection().has_room(17 * MIB));
        drop(reserved);
        assert!(budget.for_connection().has_room(20 * MIB), "an eighth");
        assert!(!budget.for_connection().has_room(21 * MIB));
    }
}
