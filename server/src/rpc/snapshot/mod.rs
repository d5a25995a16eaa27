//! This module converts the snapshot of a run to messages of the API: one message for GetRunSnapshot, or the parts with
//! which a subscription starts.

pub mod reads;
pub mod spool;

use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use runhub_api::v1;
use runhub_api::v1::subscribe_events_response::Message as ProtoMessage;

use self::spool::{PartsWriter, Spool, SpooledParts};
use super::{field, page};
use crate::actions::snapshot::{self, Entry, SnapshotLimits, TaskList};
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::Tx;

/// Size at which a part of a snapshot ends, in bytes. A part contains at most one entry beyond this size. Parts of
/// small entries are smaller than 64 KiB (`budget::SMALL_BYTES`), so `calls::events` sends them without reserving
/// memory and without writing them to a second temporary file.
const PART_BYTES: usize = 32 * 1024;
/// Maximum size of the tag and the length before an entry of a snapshot, or before a snapshot in a response, in bytes.
const OVERHEAD: usize = 8;
/// Maximum size of the encoded position and log_id of a snapshot, in bytes. A log_id is a UUID.
const CURSOR_BYTES: usize = 64;

/// The fields of a request that limit a snapshot.
pub struct RequestedLimits {
    event_limit: i32,
    attempt_limit: i32,
    task_limit: i32,
    approval_limit: i32,
    artifact_limit: i32,
}

/// Implements the conversion from a request with the fields of `RequestedLimits`.
macro_rules! requested_limits {
    ($($Request:ident),+) => {
        $(impl From<&v1::$Request> for RequestedLimits {
            fn from(request: &v1::$Request) -> Self {
                Self {
                    event_limit: request.event_limit,
                    attempt_limit: request.attempt_limit,
                    task_limit: request.task_limit,
                    approval_limit: request.approval_limit,
                    artifact_limit: request.artifact_limit,
                }
            }
        })+
    };
}
requested_limits!(GetRunSnapshotRequest, SubscribeEventsRequest);

/// Parses the limits of a snapshot. Fails if a limit is negative.
pub fn parse_limits(requested: &RequestedLimits) -> Result<SnapshotLimits> {
    Ok(SnapshotLimits {
        events: page::parse_list_length("event_limit", requested.event_limit, limits::DEFAULT_EVENTS)?,
        attempts: page::parse_list_length("attempt_limit", requested.attempt_limit, limits::DEFAULT_ATTEMPTS)?,
        tasks: parse_limit("task_limit", requested.task_limit)?,
        approvals: parse_limit("approval_limit", requested.approval_limit)?,
        artifacts: parse_limit("artifact_limit", requested.artifact_limit)?,
    })
}

/// Parses a limit whose value 0 means no limit.
fn parse_limit(field: &str, value: i32) -> Result<Option<usize>> {
    let count = usize::try_from(field::count(field, value)?).unwrap_or(usize::MAX);
    Ok(Some(count).filter(|count| *count > 0))
}

/// Reads the snapshot of a run and returns the snapshot as one message. Runs on a reader's thread, because the
/// conversion of a large snapshot is slow. Fails as soon as the response would be larger than `limits::SNAPSHOT_BYTES`.
/// `log_id` is the log_id of the store.
pub fn read_whole(tx: &mut dyn Tx, run_id: &str, log_id: &str, requested: &SnapshotLimits) -> Result<v1::RunSnapshot> {
    let mut whole = Part { bytes: CURSOR_BYTES, ..Part::default() };
    let position = snapshot::read(tx, run_id, requested, &mut |entry| {
        whole.add(entry);
        if whole.bytes > limits::SNAPSHOT_BYTES {
            return Err(snapshot::new_too_large_error(run_id));
        }
        Ok(())
    })?;
    Ok(v1::RunSnapshot { position, log_id: log_id.to_owned(), ..whole.snapshot })
}

/// Reads the snapshot of a run, and returns its encoded parts and its position. Runs on a reader's thread. The first
/// part contains the run, and the last part contains the position and `log_id`, the log_id of the store. Fails with
/// `Error::Overloaded` if the spool is full, and with `Error::SnapshotTooSlow` if the read does not end before
/// `deadline`.
pub fn spool_parts(
    tx: &mut dyn Tx,
    run_id: &str,
    log_id: &str,
    requested: &SnapshotLimits,
    spool: &Arc<Spool>,
    deadline: Instant,
) -> Result<(SpooledParts, i64)> {
    let mut parts = PartsWriter::new(Arc::clone(spool));
    let mut part = Part::default();
    let position = snapshot::read(tx, run_id, requested, &mut |entry| {
        if part.bytes >= PART_BYTES {
            if Instant::now() > deadline {
                return Err(Error::SnapshotTooSlow { run_id: run_id.to_owned() });
            }
            parts.write(&encode(std::mem::take(&mut part).snapshot))?;
        }
        part.add(entry);
        Ok(())
    })?;
    parts.write(&encode(v1::RunSnapshot { position, log_id: log_id.to_owned(), ..part.snapshot }))?;
    Ok((parts.finish()?, position))
}

fn encode(part: v1::RunSnapshot) -> Vec<u8> {
    v1::SubscribeEventsResponse { message: Some(ProtoMessage::Snapshot(part)) }.encode_to_vec()
}

/// A part of a snapshot, or a whole snapshot.
#[derive(Default)]
struct Part {
    snapshot: v1::RunSnapshot,
    /// Maximum size of the encoded snapshot.
    bytes: usize,
}

impl Part {
    fn add(&mut self, entry: Entry) {
        let Self { snapshot, bytes } = self;
        match entry {
            Entry::Run(run) => {
                let run = v1::Run::from(run);
                *bytes += 2 * OVERHEAD + run.encoded_len();
                snapshot.run = Some(run);
            }
            Entry::Agent(agent) => add_to(&mut snapshot.agents, agent.into(), bytes),
            Entry::Task(list, task) => {
                let list = match list {
                    TaskList::Pending => &mut snapshot.pending_tasks,
                    TaskList::InProgress => &mut snapshot.in_progress_tasks,
                    TaskList::Completed => &mut snapshot.completed_tasks,
                    TaskList::Blocked => &mut snapshot.blocked_tasks,
                };
                add_to(list, task.into(), bytes);
            }
            Entry::Attempt(attempt) => add_to(&mut snapshot.recent_attempts, attempt.into(), bytes),
            Entry::Event(event) => add_to(&mut snapshot.recent_events, event.into(), bytes),
            Entry::Approval(approval) => add_to(&mut snapshot.approvals, approval.into(), bytes),
            Entry::Artifact(artifact) => add_to(&mut snapshot.artifacts, artifact.into(), bytes),
        }
    }
}

fn add_to<T: Message>(list: &mut Vec<T>, entry: T, bytes: &mut usize) {
    *bytes += OVERHEAD + entry.encoded_len();
    list.push(entry);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::domain::run::{Run, RunDraft};
    use crate::domain::system_event;
    use crate::store::{Store, events, runs};

    #[tokio::test]
    async fn snapshot_that_is_not_read_in_time_fails() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db"), Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap();
        let add_run = |tx: &mut dyn Tx| {
            // The run fills the first part.
            let draft =
                RunDraft { goal: "x".repeat(PART_BYTES), repo_path: "r".to_owned(), labels: Default::default() };
            let run = Run::new(tx.next_key()?, "run".to_owned(), draft, tx.now());
            runs::insert(tx, &run)?;
            events::append(tx, run.key, &system_event::run_created(&run)).map(drop)
        };
        store.transact(add_run).await.unwrap();
        let spool = Arc::new(Spool::new(folder.path().to_owned(), 1_000_000, 1));
        for (deadline, is_in_time) in [(Instant::now(), false), (Instant::now() + Duration::from_secs(600), true)] {
            let spool = Arc::clone(&spool);
            let read = move |tx: &mut dyn Tx| {
                let requested = v1::SubscribeEventsRequest::default();
                let requested = parse_limits(&RequestedLimits::from(&requested))?;
                spool_parts(tx, "run", "log", &requested, &spool, deadline).map(|(_, position)| position)
            };
            let expected = if is_in_time { Ok(1) } else { Err(Error::SnapshotTooSlow { run_id: "run".to_owned() }) };
            assert_eq!(store.read(read).await, expected);
        }
    }
}
