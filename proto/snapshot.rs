//! A snapshot in parts: each small enough for a message, together the whole.

use prost::Message;

use crate::v1::RunSnapshot;

/// What an entry takes beside itself: a tag and a length.
const AROUND_ENTRY: usize = 6;

/// What a part takes beside its entries: its position, and what a response puts around it.
const AROUND_PART: usize = 32;

/// Cuts a snapshot up.
struct Cutter {
    done: Vec<RunSnapshot>,
    part: RunSnapshot,
    bytes: usize,
    most: usize,
}

impl Cutter {
    /// The part that the next entry goes into: a new one if this one would be too large with it.
    fn part_for(&mut self, entry: &impl Message) -> &mut RunSnapshot {
        let bytes = entry.encoded_len() + AROUND_ENTRY;
        if self.bytes + bytes > self.most && self.bytes > AROUND_PART {
            self.done.push(std::mem::take(&mut self.part));
            self.bytes = AROUND_PART;
        }
        self.bytes += bytes;
        &mut self.part
    }
}

/// Does the same with each list of a snapshot, in the order of their fields.
macro_rules! for_each_list {
    ($do:ident) => {
        $do!(agents, pending_tasks, in_progress_tasks, completed_tasks, blocked_tasks);
        $do!(recent_attempts, recent_events, approvals, artifacts);
    };
}

impl RunSnapshot {
    /// Parts of at most so many bytes, or of one entry that is larger: the run in the first, each list continued from
    /// part to part, the position in the last.
    #[must_use]
    pub fn into_parts(self, most: usize) -> Vec<Self> {
        let mut cutter = Cutter { done: Vec::new(), part: Self::default(), bytes: AROUND_PART, most };
        if let Some(run) = self.run {
            let first = cutter.part_for(&run);
            first.run = Some(run);
        }
        macro_rules! cut {
            ($($list:ident),+) => {
                $(self.$list.into_iter().for_each(|entry| cutter.part_for(&entry).$list.push(entry));)+
            };
        }
        for_each_list!(cut);
        cutter.part.position = self.position;
        cutter.done.push(cutter.part);
        cutter.done
    }

    /// Adds the next part.
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
    fn parts_together_are_the_whole() {
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
    fn a_part_is_at_most_as_large_as_asked_for_but_for_one_entry() {
        let parts = snapshot(&[300, 990, 3_000, 5, 400, 400, 150]).into_parts(1_000);
        assert!(parts.len() > 4);
        for part in parts {
            let entries = part.pending_tasks.len() + part.completed_tasks.len();
            let message = Some(subscribe_events_response::Message::Snapshot(part));
            let bytes = SubscribeEventsResponse { message }.encoded_len();
            assert!(bytes <= 1_000 || entries == 1, "{bytes} bytes, {entries} entries");
        }
    }
}
