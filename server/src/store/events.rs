//! Table `events`: the log.

use std::ops::ControlFlow;

use super::{Columns, Limit, Tx, compaction, first, params, rows_of, runs};
use crate::domain::Key;
use crate::domain::event::{Event, EventDraft, EventFilter};
use crate::domain::time::Timestamp;
use crate::error::Result;

rows_of!($ "SELECT e.position, e.seq, COALESCE(r.id, e.deleted_run_id), t.id, e.source, e.kind, e.message, e.payload, e.create_time
    FROM events e LEFT JOIN runs r ON r.key = e.run_key LEFT JOIN tasks t ON t.key = e.task_key ");

/// The event, if the filter lets it pass: of others not even the payload is read.
fn event(row: &mut Columns, filter: &EventFilter) -> Result<(i64, Option<Event>)> {
    let (position, seq) = (row.take()?, row.take()?);
    let (run_id, task_id): (String, Option<String>) = (row.take()?, row.take()?);
    let (source, kind): (String, String) = (row.take()?, row.take()?);
    if !filter.passes(&kind, &source, task_id.as_deref()) {
        return Ok((position, None));
    }
    let (message, payload, create_time) = (row.take()?, row.take()?, row.take()?);
    Ok((position, Some(Event { position, seq, run_id, task_id, source, kind, message, payload, create_time })))
}

/// Where events were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Appended {
    pub first_seq: i64,
    pub last_seq: i64,
    pub last_position: i64,
}

/// Appends one event.
pub fn append(tx: &mut dyn Tx, run_key: Key, draft: &EventDraft) -> Result<Appended> {
    append_all(tx, run_key, std::slice::from_ref(draft))
}

/// Appends events in their order.
pub fn append_all(tx: &mut dyn Tx, run_key: Key, drafts: &[EventDraft]) -> Result<Appended> {
    let now = tx.now();
    append_at(tx, run_key, drafts.iter().map(|draft| (draft, now)))
}

/// Appends events that happened at a time of their own.
pub fn append_at<'a>(
    tx: &mut dyn Tx,
    run_key: Key,
    drafts: impl ExactSizeIterator<Item = (&'a EventDraft, Timestamp)>,
) -> Result<Appended> {
    let count = i64::try_from(drafts.len()).unwrap_or(i64::MAX);
    let last_seq = runs::take_seqs(tx, run_key, count)?;
    let first_seq = last_seq - count + 1;
    let mut last_position = 0;
    for (seq, (draft, time)) in (first_seq..).zip(drafts) {
        last_position = tx.next_position()?;
        let sql = "INSERT INTO events (position, run_key, seq, task_key, source, kind, message, payload, create_time)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let EventDraft { task_key, source, kind, message, payload } = draft;
        tx.execute(sql, params![last_position, run_key, seq, task_key, source, kind, message, payload, time])?;
    }
    Ok(Appended { first_seq, last_seq, last_position })
}

/// Which events to look through.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// None: of all runs.
    pub run_key: Option<Key>,
    /// Only after this position.
    pub after: i64,
    /// Only before this position.
    pub before: Option<i64>,
    /// From the newest backwards.
    pub newest_first: bool,
    /// Only what it lets pass.
    pub filter: EventFilter,
}

impl Scan {
    /// The same from where one scan has stopped.
    pub fn go_on_from(&mut self, position: i64) {
        if self.newest_first {
            self.before = Some(position);
        } else {
            self.after = position;
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of the scan.
    pub events: Vec<Event>,
    /// Where it ended.
    pub end: ScanEnd,
}

/// Where a scan ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScanEnd {
    /// There is nothing more.
    #[default]
    Exhausted,
    /// The limit was reached; everything up to this position was looked at.
    Full(i64),
    /// Enough was looked at for one read; everything up to this position was.
    Looked(i64),
}

/// How many events one read looks at when the filter lets few pass, so that others have their turn.
const LOOK_AT: usize = 5_000;

/// Looks through events until enough are found, or enough were looked at.
pub fn scan(tx: &mut dyn Tx, scan: &Scan, limit: Limit) -> Result<Found> {
    let mut found = Found::default();
    let (mut looked, mut bytes, mut last) = (0, 0, scan.after);
    let before = scan.before.unwrap_or(i64::MAX);
    let all_runs = scan.run_key.unwrap_or_default();
    tx.query(scan_sql(scan), params![scan.after, before, all_runs], &mut |row| {
        if looked == LOOK_AT {
            found.end = ScanEnd::Looked(last);
            return Ok(ControlFlow::Break(()));
        }
        let (position, event) = event(row, &scan.filter)?;
        if let Some(event) = event {
            bytes += row.bytes();
            if found.events.len() == limit.rows || (bytes > limit.bytes && !found.events.is_empty()) {
                found.end = ScanEnd::Full(last);
                return Ok(ControlFlow::Break(()));
            }
            found.events.push(event);
        }
        (looked, last) = (looked + 1, position);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// One statement for each scope and direction, so that each has its index.
fn scan_sql(scan: &Scan) -> &'static str {
    match (scan.run_key.is_some(), scan.newest_first) {
        (true, false) => {
            select!("WHERE e.position > $1 AND e.position < $2 AND e.run_key = $3 ORDER BY e.position")
        }
        (true, true) => {
            select!("WHERE e.position > $1 AND e.position < $2 AND e.run_key = $3 ORDER BY e.position DESC")
        }
        (false, false) => select!("WHERE e.position > $1 AND e.position < $2 AND $3 = 0 ORDER BY e.position"),
        (false, true) => select!("WHERE e.position > $1 AND e.position < $2 AND $3 = 0 ORDER BY e.position DESC"),
    }
}

/// The position of a run's newest event, also if it was removed since; 0 if it never had one.
pub fn newest_of_run(tx: &mut dyn Tx, run_key: Key) -> Result<i64> {
    let sql = "SELECT position FROM events WHERE run_key = $1 ORDER BY position DESC LIMIT 1";
    match first(tx, sql, params![run_key], |row| row.take())? {
        Some(position) => Ok(position),
        None => compaction::of_run(tx, run_key),
    }
}
