//! This module reads and writes the table `events`, which stores the log.

use std::ops::ControlFlow;

use super::portion::Portion;
use super::table::{select, table};
use super::tasks_ahead::keep_tasks;
use super::{Columns, Limit, Tx, compaction, first, params, row_limit, runs};
use crate::domain::Key;
use crate::domain::event::{Event, EventDraft, EventFilter};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Holds a row to insert into the table `events`.
struct NewEvent<'a> {
    position: i64,
    seq: i64,
    create_time: Timestamp,
    draft: &'a EventDraft,
}

table! {
    events e, event: NewEvent;
    fixed {
        position, seq,
        source = event.draft.source,
        kind = event.draft.kind,
        message = event.draft.message,
        payload = event.draft.payload,
        create_time,
    }
    given { run_key: Key, task_key: Option<Key> }
    joined "LEFT JOIN live_runs r ON r.key = e.run_key LEFT JOIN tasks t ON t.key = e.task_key" {
        run_id: "COALESCE(r.id, e.deleted_run_id)",
        task_id: "t.id",
    }
    read by hand;
}

/// Returns the position of a row and the row's event. If the event does not match the filter, or if the server is
/// deleting the event's run, the function returns None instead of the event and does not read the event's message and
/// payload.
fn read_if_matching(row: &mut Columns, filter: &EventFilter) -> Result<(i64, Option<Event>)> {
    let run_id: Option<String> = row.take()?;
    let task_id: Option<String> = row.take()?;
    let position = row.take()?;
    let seq = row.take()?;
    let source: String = row.take()?;
    let kind: String = row.take()?;
    let Some(run_id) = run_id.filter(|_| filter.accepts(&kind, &source, task_id.as_deref())) else {
        return Ok((position, None));
    };
    let message = row.take()?;
    let payload = row.take()?;
    let create_time = row.take()?;
    Ok((position, Some(Event { position, seq, run_id, task_id, source, kind, message, payload, create_time })))
}

/// Holds the sequence numbers and the position that were assigned to appended events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendResult {
    /// Sequence number (`seq`) of the first appended event.
    pub first_seq: i64,
    /// Sequence number (`seq`) of the last appended event.
    pub last_seq: i64,
    /// Position of the last appended event in the log.
    pub last_position: i64,
}

/// Appends an event to the log and returns the sequence number and position of the event. Fails if the run does not
/// exist.
pub fn append(tx: &mut dyn Tx, run_key: Key, draft: &EventDraft) -> Result<AppendResult> {
    append_all(tx, run_key, std::slice::from_ref(draft))
}

/// Appends events of a run in slice order, with `tx.now()` as creation time. Returns the assigned sequence numbers and
/// the last position. Fails if the run does not exist.
pub fn append_all(tx: &mut dyn Tx, run_key: Key, drafts: &[EventDraft]) -> Result<AppendResult> {
    let now = tx.now();
    append_with_times(tx, run_key, drafts.iter().map(|draft| (draft, now)))
}

/// Appends events of a run in iterator order, each with the creation time from the iterator. Returns the assigned
/// sequence numbers and the last position. Fails if the run does not exist.
pub fn append_with_times<'a>(
    tx: &mut dyn Tx,
    run_key: Key,
    drafts: impl ExactSizeIterator<Item = (&'a EventDraft, Timestamp)>,
) -> Result<AppendResult> {
    let count = i64::try_from(drafts.len()).unwrap_or(i64::MAX);
    let last_seq = runs::assign_seqs(tx, run_key, count)?;
    let first_seq = last_seq - count + 1;
    let mut last_position = 0;
    for (seq, (draft, create_time)) in (first_seq..).zip(drafts) {
        last_position = insert(tx, run_key, seq, draft, create_time)?;
    }
    Ok(AppendResult { first_seq, last_seq, last_position })
}

/// Appends the event of a claim that has opened the attempt with the key `attempt_key`, and records the claim
/// (`runs::record_claim`). Fails if the run does not exist.
pub fn append_claim(tx: &mut dyn Tx, run_key: Key, attempt_key: Key, draft: &EventDraft) -> Result<()> {
    let seq = runs::record_claim(tx, run_key, attempt_key)?;
    let now = tx.now();
    insert(tx, run_key, seq, draft, now).map(drop)
}

/// Inserts an event at the next position, and returns the position.
fn insert(tx: &mut dyn Tx, run_key: Key, seq: i64, draft: &EventDraft, create_time: Timestamp) -> Result<i64> {
    let position = tx.next_position()?;
    let event = NewEvent { position, seq, create_time, draft };
    keep_tasks(tx, None, |tx| insert_row(tx, run_key, draft.task_key, &event))?;
    Ok(position)
}

/// The seq and the position before the first reserved event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Reserved {
    pub seq: i64,
    pub position: i64,
}

/// Reserves the seqs and positions of the next `count` events of a run. The caller must insert the events in the same
/// transaction. Fails if the run does not exist.
pub fn reserve(tx: &mut dyn Tx, run_key: Key, count: usize) -> Result<Reserved> {
    let added = i64::try_from(count).unwrap_or(i64::MAX);
    let seq = runs::assign_seqs(tx, run_key, added)? - added;
    let mut last_position = 0;
    for _ in 0..count {
        last_position = tx.next_position()?;
    }
    Ok(Reserved { seq, position: last_position - added })
}

/// Inserts the first reserved event. The event gets the seq and the position that follow `reserved`.
pub fn insert_reserved(tx: &mut dyn Tx, run_key: Key, reserved: Reserved, draft: &EventDraft) -> Result<()> {
    let create_time = tx.now();
    let event = NewEvent { position: reserved.position + 1, seq: reserved.seq + 1, create_time, draft };
    insert_row(tx, run_key, draft.task_key, &event)
}

/// Specifies which events a scan reads, and in which order.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// Key of the run whose events are scanned. None means the events of all runs.
    pub run_key: Option<Key>,
    /// Exclusive lower bound of the scanned positions. 0 means no lower bound.
    pub after: i64,
    /// Exclusive upper bound of the scanned positions. None means no upper bound.
    pub before: Option<i64>,
    /// If the scan runs from the newest event to the oldest, the value is true. If the scan runs from the oldest event
    /// to the newest, the value is false.
    pub newest_first: bool,
    /// Filter for the events that the scan returns.
    pub filter: EventFilter,
}

impl Scan {
    /// Sets the bounds so that the next scan continues at `position`, where the previous scan stopped.
    pub fn continue_from(&mut self, position: i64) {
        if self.newest_first {
            self.before = Some(position);
        } else {
            self.after = position;
        }
    }
}

/// Holds the result of a scan.
#[derive(Debug, Default)]
pub struct ScanResult {
    /// Matching events, in the order of the scan.
    pub events: Vec<Event>,
    /// Reason why the scan stopped.
    pub end: ScanEnd,
}

/// Specifies why a scan stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScanEnd {
    /// The scan checked every event within the bounds of the scan.
    #[default]
    Exhausted,
    /// The scan reached the limit of rows or bytes. The value is the position of the last checked event.
    Full(i64),
    /// The scan checked `MAX_CHECKED` events. The value is the position of the last checked event.
    Checked(i64),
}

/// Maximum number of events that one scan checks. Without this limit, a scan with few matching events would hold a
/// database connection until the scan has read the whole log.
const MAX_CHECKED: usize = 5_000;

/// Number of events that the first statement of a scan reads.
const FIRST_PORTION: usize = 16;
/// Maximum number of events that one statement of a scan reads.
const MAX_PORTION: usize = 128;

/// Scans events and returns the events that match the filter of the scan. If the result reaches `limit`, if the
/// scan has checked `MAX_CHECKED` (5,000) events, or if no events remain, the scan stops.
pub fn scan(tx: &mut dyn Tx, scan: &Scan, limit: Limit) -> Result<ScanResult> {
    let portion = Portion::new(FIRST_PORTION, MAX_PORTION);
    let mut progress =
        Progress { scan: scan.clone(), limit, found: ScanResult::default(), checked: 0, bytes: 0, portion };
    while progress.read_portion(tx)? {}
    Ok(progress.found)
}

/// A scan that reads one portion of the events after the other.
struct Progress {
    /// The events that remain.
    scan: Scan,
    limit: Limit,
    found: ScanResult,
    checked: usize,
    /// Total size of the found events, in bytes.
    bytes: usize,
    portion: Portion,
}

impl Progress {
    /// Checks the next portion of the events. Returns whether the scan must continue.
    fn read_portion(&mut self, tx: &mut dyn Tx) -> Result<bool> {
        let Scan { run_key, after, before, newest_first, .. } = self.scan;
        let before = before.unwrap_or(i64::MAX);
        // One event more tells whether the limit is reached.
        let rows = row_limit(self.portion.rows().min(self.limit.rows).saturating_add(1));
        let checked_before = self.checked;
        let each = &mut |row: &mut Columns| self.check(row);
        match run_key {
            Some(run_key) => {
                tx.query(select_scan_of_run(newest_first), params![after, before, rows, run_key], each)?;
            }
            None => tx.query(select_scan_of_all_runs(newest_first), params![after, before, rows], each)?,
        }
        let is_full = row_limit(self.checked - checked_before) == rows;
        self.portion.grow(self.limit.bytes.saturating_sub(self.bytes));
        Ok(is_full && self.found.end == ScanEnd::Exhausted)
    }

    fn check(&mut self, row: &mut Columns) -> Result<ControlFlow<()>> {
        if self.checked == MAX_CHECKED {
            self.found.end = ScanEnd::Checked(self.last_position());
            return Ok(ControlFlow::Break(()));
        }
        let (position, event) = read_if_matching(row, &self.scan.filter)?;
        self.portion.record(row.bytes());
        if let Some(event) = event {
            self.bytes += row.bytes();
            let is_full = self.found.events.len() == self.limit.rows
                || (self.bytes > self.limit.bytes && !self.found.events.is_empty());
            if is_full {
                self.found.end = ScanEnd::Full(self.last_position());
                return Ok(ControlFlow::Break(()));
            }
            self.found.events.push(event);
        }
        self.checked += 1;
        self.scan.continue_from(position);
        Ok(ControlFlow::Continue(()))
    }

    /// Returns the position of the last checked event.
    fn last_position(&self) -> i64 {
        if self.scan.newest_first { self.scan.before.unwrap_or(i64::MAX) } else { self.scan.after }
    }
}

/// Returns the statement that scans the events of one run.
fn select_scan_of_run(newest_first: bool) -> &'static str {
    if newest_first {
        select!("WHERE e.position > $1 AND e.position < $2 AND e.run_key = $4 ORDER BY e.position DESC LIMIT $3")
    } else {
        select!("WHERE e.position > $1 AND e.position < $2 AND e.run_key = $4 ORDER BY e.position LIMIT $3")
    }
}

/// Returns the statement that scans the events of all runs.
fn select_scan_of_all_runs(newest_first: bool) -> &'static str {
    if newest_first {
        select!("WHERE e.position > $1 AND e.position < $2 ORDER BY e.position DESC LIMIT $3")
    } else {
        select!("WHERE e.position > $1 AND e.position < $2 ORDER BY e.position LIMIT $3")
    }
}

/// Returns the position of a run's newest event, even if retention has removed the event. Returns 0 if the run never
/// had an event.
pub fn newest_position_of_run(tx: &mut dyn Tx, run_key: Key) -> Result<i64> {
    let sql = "SELECT position FROM events WHERE run_key = $1 ORDER BY position DESC LIMIT 1";
    match first(tx, sql, params![run_key], |row| row.take())? {
        Some(position) => Ok(position),
        None => compaction::newest_removed_of_run(tx, run_key),
    }
}
