//! This module chooses how many rows one statement reads.

/// Each statement reads at most this many times as many rows as the statement before, because its rows can be larger.
const FACTOR: usize = 4;

/// The number of rows that the next of several statements reads. PostgreSQL sends all rows of a statement, even if the
/// reader stops at the first row, and a row can have several MiB.
#[derive(Debug, Clone)]
pub(super) struct Portion {
    rows: usize,
    max: usize,
    /// Size of the largest row so far, in bytes.
    largest: usize,
}

impl Portion {
    /// Returns a portion of `first` rows that grows to at most `max` rows.
    pub fn new(first: usize, max: usize) -> Self {
        Self { rows: first, max, largest: 0 }
    }

    /// Returns the number of rows that the next statement reads.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Records the size of a row, in bytes.
    pub fn record(&mut self, bytes: usize) {
        self.largest = self.largest.max(bytes);
    }

    /// Grows to as many rows as fit into `room` bytes if no row is larger than the rows so far, but to one row at least.
    pub fn grow(&mut self, room: usize) {
        let fitting = room / self.largest.max(1);
        self.rows = (self.rows * FACTOR).min(fitting).clamp(1, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the sizes of the first portions if each row has `bytes` bytes and 1 MiB has room.
    fn portions(bytes: usize) -> [usize; 4] {
        let mut portion = Portion::new(1, 16);
        [(); 4].map(|()| {
            let rows = portion.rows();
            portion.record(bytes);
            portion.grow(1024 * 1024);
            rows
        })
    }

    #[test]
    fn portions_grow_unless_the_rows_are_large() {
        assert_eq!(portions(1_000), [1, 4, 16, 16]);
        assert_eq!(portions(400_000), [1, 2, 2, 2]);
        assert_eq!(portions(3_000_000), [1, 1, 1, 1]);
    }
}
