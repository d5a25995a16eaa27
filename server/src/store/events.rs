//! Table `events`: the log.

use std::ops::ControlFlow;

use super::table::{select, table};
use super::{Columns, Limit, Tx, compaction, first, params, runs};
use crate::domain::Key;
use crate::domain::event::{Event, EventDraft, EventFilter};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// A new row of the log.
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
    joined "LEFT JOIN runs r ON r.key = e.run_key LEFT JOIN tasks t ON t.key = e.task_key" {
        run_id: "COALESCE(r.id, e.deleted_run_id)",
        task_id: "t.id",
    }
    read by hand;
}

/// Maps a row of `select!` to its position and, if the filter matches, its event. The message and the payload of other
/// events are not read.
fn read_if_matching(row: &mut Columns, filter: &EventFilter) -> Result<(i64, Option<Event>)> {
    let run_id: String = row.take()?;
    let task_id: Option<String> = row.take()?;
    let position = row.take()?;
    let seq = row.take()?;
    let source: String = row.take()?;
    let kind: String = row.take()?;
    if !filter.passes(&kind, &source, task_id.as_deref()) {
        return Ok((position, None));
    }
    let message = row.take()?;
    let payload = row.take()?;
    let create_time = row.take()?;
    Ok((position, Some(Event { position, seq, run_id, task_id, source, kind, message, payload, create_time })))
}

/// The numbers of appended events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The seq of the first event.
    pub first_seq: i64,
    /// The seq of the last event.
    pub last_seq: i64,
    /// The position of the last event.
    pub last_position: i64,
}

/// Appends an event.
pub fn append(tx: &mut dyn Tx, run_key: Key, draft: &EventDraft) -> Result<Appended> {
    append_all(tx, run_key, std::slice::from_ref(draft))
}

/// Appends events in their order.
pub fn append_all(tx: &mut dyn Tx, run_key: Key, drafts: &[EventDraft]) -> Result<Appended> {
    let now = tx.now();
    append_at(tx, run_key, drafts.iter().map(|draft| (draft, now)))
}

/// Appends events in their order, each with its own time.
pub fn append_at<'a>(
    tx: &mut dyn Tx,
    run_key: Key,
    drafts: impl ExactSizeIterator<Item = (&'a EventDraft, Timestamp)>,
) -> Result<Appended> {
    let count = i64::try_from(drafts.len()).unwrap_or(i64::MAX);
    let last_seq = runs::take_seqs(tx, run_key, count)?;
    let first_seq = last_seq - count + 1;
    let mut last_position = 0;
    for (seq, (draft, create_time)) in (first_seq..).zip(drafts) {
        last_position = tx.next_position()?;
        insert_row(tx, run_key, draft.task_key, &NewEvent { position: last_position, seq, create_time, draft })?;
    }
    Ok(Appended { first_seq, last_seq, last_position })
}

/// The events to scan, and in which order.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// The run. None: all runs.
    pub run_key: Option<Key>,
    /// The exclusive lower bound of positions.
    pub after: i64,
    /// The exclusive upper bound of positions. None: no bound.
    pub before: Option<i64>,
    /// Scan from the newest event backwards.
    pub newest_first: bool,
    /// The events to return.
    pub filter: EventFilter,
}

impl Scan {
    /// Continues after the position where a scan has stopped.
    pub fn continue_from(&mut self, position: i64) {
        if self.newest_first {
            self.before = Some(position);
        } else {
            self.after = position;
        }
    }
}

/// The result of a scan.
#[derive(Debug, Default)]
pub struct Found {
    /// The matching events in the order of the scan.
    pub events: Vec<Event>,
    /// Why and where the scan has stopped.
    pub end: ScanEnd,
}

/// Why a scan has stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScanEnd {
    /// No more events follow.
    #[default]
    Exhausted,
    /// The limit was reached. Every event up to this position was checked.
    Full(i64),
    /// `MAX_CHECKED` events were checked. Every event up to this position was.
    Checked(i64),
}

/// Maximum number of events that one scan checks when few match, so that a scan does not hold its connection for long.
const MAX_CHECKED: usize = 5_000;

/// Scans events until it has found enough or has checked enough.
pub fn scan(tx: &mut dyn Tx, scan: &Scan, limit: Limit) -> Result<Found> {
    let mut found = Found::default();
    let mut checked = 0;
    let mut bytes = 0;
    let mut last = scan.after;
    let each = &mut |row: &mut Columns| -> Result<ControlFlow<()>> {
        if checked == MAX_CHECKED {
            found.end = ScanEnd::Checked(last);
            return Ok(ControlFlow::Break(()));
        }
        let (position, event) = read_if_matching(row, &scan.filter)?;
        if let Some(event) = event {
            bytes += row.bytes();
            if found.events.len() == limit.rows || (bytes > limit.bytes && !found.events.is_empty()) {
                found.end = ScanEnd::Full(last);
                return Ok(ControlFlow::Break(()));
            }
            found.events.push(event);
        }
        checked += 1;
        last = position;
        Ok(ControlFlow::Continue(()))
    };
    let before = scan.before.unwrap_or(i64::MAX);
    match scan.run_key {
        Some(run_key) => tx.query(run_scan(scan.newest_first), params![scan.after, before, run_key], each)?,
        None => tx.query(full_scan(scan.newest_first), params![scan.after, before], each)?,
    }
    Ok(found)
}

/// The scan of one run, which has an index.
fn run_scan(newest_first: bool) -> &'static str {
    if newest_first {
        select!("WHERE e.position > $1 AND e.position < $2 AND e.run_key = $3 ORDER BY e.position DESC")
    } else {
        select!("WHERE e.position > $1 AND e.position < $2 AND e.run_key = $3 ORDER BY e.position")
    }
}

/// The scan of all runs.
fn full_scan(newest_first: bool) -> &'static str {
    if newest_first {
        select!("WHERE e.position > $1 AND e.position < $2 ORDER BY e.position DESC")
    } else {
        select!("WHERE e.position > $1 AND e.position < $2 ORDER BY e.position")
    }
}

/// Returns the position of a run's newest event, even if retention has removed the event; 0 if the run never had one.
pub fn newest_of_run(tx: &mut dyn Tx, run_key: Key) -> Result<i64> {
    let sql = "SELECT position FROM events WHERE run_key = $1 ORDER BY position DESC LIMIT 1";
    match first(tx, sql, params![run_key], |row| row.take())? {
        Some(position) => Ok(position),
        None => compaction::of_run(tx, run_key),
    }
}
