//! This module splits a run's snapshot into parts that each fit into one message, and joins the parts.

use prost::Message;

use crate::v1::RunSnapshot;

/// Number of bytes for the tag and the length of each entry in an encoded part.
const ENTRY_OVERHEAD: usize = 6;

/// Number of bytes in an encoded part in addition to the part's entries: the position of the part, and the tags and
/// lengths of the response that contains the part.
const PART_OVERHEAD: usize = 32;

/// Distributes the entries of a snapshot over parts of limited size.
struct Splitter {
    done: Vec<RunSnapshot>,
    part: RunSnapshot,
    bytes: usize,
    max_bytes: usize,
}

impl Splitter {
    /// Returns the part for the next entry. If the current part would exceed `max_bytes` with the entry, the function
    /// returns a new part.
    fn select_part(&mut self, entry: &impl Message) -> &mut RunSnapshot {
        let bytes = entry.encoded_len() + ENTRY_OVERHEAD;
        if self.bytes + bytes > self.max_bytes && self.bytes > PART_OVERHEAD {
            self.done.push(std::mem::take(&mut self.part));
            self.bytes = PART_OVERHEAD;
        }
        self.bytes += bytes;
        &mut self.part
    }
}

/// Calls a macro with the names of all lists of a snapshot, in the order of the fields.
macro_rules! for_each_list {
    ($do:ident) => {
        $do!(agents, pending_tasks, in_progress_tasks, completed_tasks, blocked_tasks);
        $do!(recent_attempts, recent_events, approvals, artifacts);
    };
}

impl RunSnapshot {
    /// Splits the snapshot into parts of at most `max_bytes` bytes and returns the parts. A part with a single entry
    /// may be larger. The first part contains the run, and the last part contains the position. A list may continue in
    /// the next part.
    #[must_use]
    pub fn into_parts(self, max_bytes: usize) -> Vec<Self> {
        let mut splitter = Splitter { done: Vec::new(), part: Self::default(), bytes: PART_OVERHEAD, max_bytes };
        if let Some(run) = self.run {
            let first = splitter.select_part(&run);
            first.run = Some(run);
        }
        macro_rules! split {
            ($($list:ident),+) => {
                $(self.$list.into_iter().for_each(|entry| splitter.select_part(&entry).$list.push(entry));)+
            };
        }
        for_each_list!(split);
        splitter.part.position = self.position;
        splitter.done.push(splitter.part);
        splitter.done
    }

    /// Appends the entries of `part`, the next part of the snapshot, to this snapshot.
    pub fn append(&mut self, part: Self) {
        macro_rules! append {
            ($($list:ident),+) => {
                $(self.$list.extend(part.$list);)+
            };
        }
        self.run = part.run.or(self.run.take());
        for_each_list!(append);
        self.position = part.position;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::v1::{Run, SubscribeEventsResponse, Task, subscribe_events_response};

    fn task(bytes: usize) -> Task {
        Task { title: "t".repeat(bytes), ..Task::default() }
    }

    fn snapshot(sizes: &[usize]) -> RunSnapshot {
        RunSnapshot {
            run: Some(Run { goal: "g".into(), ..Run::default() }),
            pending_tasks: sizes.iter().map(|bytes| task(*bytes)).collect(),
            completed_tasks: sizes.iter().map(|bytes| task(*bytes)).collect(),
            position: i64::MAX,
            ..RunSnapshot::default()
        }
    }

    #[test]
    fn joined_parts_equal_the_snapshot() {
        for sizes in [&[][..], &[10], &[400; 7], &[990, 1, 3_000, 5]] {
            let whole = snapshot(sizes);
            let parts = whole.clone().into_parts(1_000);
            assert!(parts[0].run.is_some());
            assert!(parts[..parts.len() - 1].iter().all(|part| part.position == 0));
            let mut joined = RunSnapshot::default();
            parts.into_iter().for_each(|part| joined.append(part));
            assert_eq!(joined, whole);
        }
    }

    #[test]
    fn only_a_part_with_one_entry_is_larger_than_the_limit() {
        let parts = snapshot(&[300, 990, 3_000, 5, 400, 400, 150]).into_parts(1_000);
        assert!(parts.len() > 4);
        for part in parts {
            let entries = part.pending_tasks.len() + part.completed_tasks.len();
            let message = Some(subscribe_events_response::Message::Snapshot(part));
            let bytes = SubscribeEventsResponse { message }.encoded_len();
            assert!(bytes <= 1_000 || entries == 1, "a part with {entries} entries has {bytes} bytes, over 1,000");
        }
    }
}
