//! Table `events`: the log.

use std::ops::ControlFlow;

use super::{Columns, Limit, Tx, first, params, runs};
use crate::domain::Key;
use crate::domain::event::{Event, EventDraft, EventFilter};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// A query of whole rows, continued.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT e.position, e.seq, r.id, t.id, e.source, e.kind, e.message, e.payload, e.create_time
    FROM events e JOIN runs r ON r.key = e.run_key LEFT JOIN tasks t ON t.key = e.task_key ",
            $rest
        )
    };
}

fn event(row: &mut Columns) -> Result<Event> {
    Ok(Event {
        position: row.take()?,
        seq: row.take()?,
        run_id: row.take()?,
        task_id: row.take()?,
        source: row.take()?,
        kind: row.take()?,
        message: row.take()?,
        payload: row.take()?,
        create_time: row.take()?,
    })
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

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// In the order of the scan.
    pub events: Vec<Event>,
    /// None: the scan came to its end. Else everything up to this position was looked at.
    pub stopped_at: Option<i64>,
}

/// Looks through events until enough are found, or `look_at` of them were looked at.
pub fn scan(tx: &mut dyn Tx, scan: &Scan, limit: Limit, look_at: usize) -> Result<Found> {
    let mut found = Found { events: Vec::new(), stopped_at: None };
    let (mut looked, mut bytes, mut last) = (0, 0, scan.after);
    let before = scan.before.unwrap_or(i64::MAX);
    let all_runs = scan.run_key.unwrap_or_default();
    tx.query(scan_sql(scan), params![scan.after, before, all_runs], &mut |row| {
        let event = event(row)?;
        let passes = scan.filter.matches(&event);
        let full = passes && (found.events.len() == limit.rows || (bytes > 0 && bytes + event.size() > limit.bytes));
        if full || looked == look_at {
            found.stopped_at = Some(last);
            return Ok(ControlFlow::Break(()));
        }
        (looked, last) = (looked + 1, event.position);
        if passes {
            bytes += event.size();
            found.events.push(event);
        }
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

/// The position of a run's newest event, 0 if it has none.
pub fn newest_of_run(tx: &mut dyn Tx, run_key: Key) -> Result<i64> {
    let sql = "SELECT position FROM events WHERE run_key = $1 ORDER BY position DESC LIMIT 1";
    Ok(first(tx, sql, params![run_key], |row| row.take())?.unwrap_or(0))
}
