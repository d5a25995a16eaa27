//! This module finds rows that become due at a certain time: expired leases, cancellations, expired approvals,
//! and delayed tasks.

use std::time::Duration;

use super::names::{delayed, run_status, task_status, verdict};
use super::{Tx, all, first, params, row_limit};
use crate::domain::Key;
use crate::domain::lease;
use crate::domain::time::{ClockStep, Timestamp};
use crate::error::Result;

/// Expands to the condition of the partial index `tasks_by_lease_end`.
macro_rules! leased {
    () => {
        concat!("status = ", task_status!(IN_PROGRESS))
    };
}
/// Expands to the condition of the partial index `runs_cancelling`.
macro_rules! in_grace {
    () => {
        concat!("status = ", run_status!(CANCELLING))
    };
}
/// Expands to the condition of the partial index `approvals_by_expiry`.
macro_rules! undecided {
    () => {
        concat!("verdict = ", verdict!(PENDING), " AND has_expired = 0")
    };
}

/// Lists the rows that are due at a point in time, grouped by kind.
#[derive(Debug, Clone, Default)]
pub struct DueRows {
    /// Keys of the tasks whose lease has expired.
    pub leases: Vec<Key>,
    /// Keys of the runs that are being cancelled, if the grace period of the run has ended, or if the run has pending
    /// tasks or no leased tasks.
    pub cancellations: Vec<Key>,
    /// Key of a run that the server is deleting. A sweep continues only one deletion, so that other due rows do not
    /// wait.
    pub deletion: Option<Key>,
    /// Keys of the pending approvals whose expiry time has passed.
    pub approvals: Vec<Key>,
    /// Whether the `not_before_time` of a delayed task has passed.
    pub has_due_tasks: bool,
}

impl DueRows {
    /// Returns whether nothing is due.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
            && self.cancellations.is_empty()
            && self.deletion.is_none()
            && self.approvals.is_empty()
            && !self.has_due_tasks
    }
}

/// Returns the leases, cancellations and approvals that are due at `now`, at most 100 of each kind, a deletion, and
/// whether a delayed task is due.
pub fn find(tx: &mut dyn Tx, now: Timestamp) -> Result<DueRows> {
    let leases = concat!(
        "SELECT key FROM tasks WHERE ",
        leased!(),
        " AND lease_expire_time <= $1 ORDER BY lease_expire_time LIMIT 100"
    );
    let cancellations = concat!(
        "SELECT key FROM runs WHERE ",
        in_grace!(),
        // PostgreSQL could answer an EXISTS by reading all pending tasks.
        " AND grace_end_time IS NOT NULL AND (grace_end_time <= $1 OR
            (SELECT t.key FROM tasks t WHERE t.run_key = runs.key AND t.status = ",
        task_status!(PENDING),
        " LIMIT 1) IS NOT NULL OR (SELECT t.key FROM tasks t WHERE t.run_key = runs.key AND t.status = ",
        task_status!(IN_PROGRESS),
        " LIMIT 1) IS NULL) LIMIT 100"
    );
    let approvals = concat!(
        "SELECT key FROM approvals WHERE ",
        undecided!(),
        " AND expire_time <= $1 AND NOT EXISTS (SELECT 1 FROM deleted_runs d WHERE d.run_key = approvals.run_key)
        ORDER BY expire_time LIMIT 100"
    );
    Ok(DueRows {
        leases: all(tx, leases, params![now], |row| row.take())?,
        cancellations: all(tx, cancellations, params![now], |row| row.take())?,
        deletion: first(tx, "SELECT run_key FROM deleted_runs LIMIT 1", &[], |row| row.take())?,
        approvals: all(tx, approvals, params![now], |row| row.take())?,
        has_due_tasks: next_delay_end(tx)?.is_some_and(|time| time <= now),
    })
}

/// Returns the earliest `not_before_time` of a delayed task, or None if no task is delayed.
pub fn next_delay_end(tx: &mut dyn Tx) -> Result<Option<Timestamp>> {
    let sql = concat!(
        "SELECT not_before_time FROM tasks WHERE ",
        delayed!(),
        " AND not_before_time IS NOT NULL ORDER BY not_before_time LIMIT 1"
    );
    first(tx, sql, &[], |row| row.take())
}

/// Ends the delay of at most `limit` tasks whose `not_before_time` has passed at `now`. Returns, for each run of such a
/// task, the key of the run and the number of the run's tasks that became ready.
pub fn end_delays(tx: &mut dyn Tx, now: Timestamp, limit: usize) -> Result<Vec<(Key, usize)>> {
    let sql = concat!(
        "UPDATE tasks SET is_delayed = 0, claim_version = $1 WHERE key IN (SELECT key FROM tasks WHERE ",
        delayed!(),
        " AND not_before_time <= $2 ORDER BY not_before_time LIMIT $3) RETURNING run_key, open_dependencies"
    );
    let version = tx.next_claim_version()?;
    let due: Vec<(Key, i32)> =
        all(tx, sql, params![version, now, row_limit(limit)], |row| Ok((row.take()?, row.take()?)))?;
    Ok(count_by_run(due.into_iter().filter(|(_, open)| *open == 0).map(|(run_key, _)| run_key).collect()))
}

fn count_by_run(mut run_keys: Vec<Key>) -> Vec<(Key, usize)> {
    run_keys.sort_unstable();
    run_keys.chunk_by(|one, next| one == next).map(|of_run| (of_run[0], of_run.len())).collect()
}

/// Returns the earliest time at which a row becomes due, or None if no row will become due. If a row is overdue, the
/// time is in the past.
pub fn next_due_time(tx: &mut dyn Tx) -> Result<Option<Timestamp>> {
    let leases = concat!(
        "SELECT lease_expire_time FROM tasks WHERE ",
        leased!(),
        " AND lease_expire_time IS NOT NULL
        ORDER BY lease_expire_time LIMIT 1"
    );
    let graces = concat!(
        "SELECT grace_end_time FROM runs WHERE ",
        in_grace!(),
        " AND grace_end_time IS NOT NULL
        ORDER BY grace_end_time LIMIT 1"
    );
    let approvals = concat!(
        "SELECT expire_time FROM approvals WHERE ",
        undecided!(),
        " AND expire_time IS NOT NULL
        ORDER BY expire_time LIMIT 1"
    );
    let times = [
        first(tx, leases, &[], |row| row.take())?,
        first(tx, graces, &[], |row| row.take())?,
        first(tx, approvals, &[], |row| row.take())?,
        next_delay_end(tx)?,
    ];
    Ok(times.into_iter().flatten().min())
}

/// Moves the ends of the leases, grace periods, retry delays and ttls by a step of the clock, so that each of them keeps
/// its remaining time. Times that callers passed as times do not move.
pub fn move_durations(tx: &mut dyn Tx, step: ClockStep) -> Result<()> {
    let leases = concat!(
        "UPDATE tasks SET lease_expire_time = lease_expire_time + $1 WHERE ",
        leased!(),
        " AND lease_expire_time IS NOT NULL"
    );
    let graces = concat!(
        "UPDATE runs SET grace_end_time = grace_end_time + $1 WHERE ",
        in_grace!(),
        " AND grace_end_time IS NOT NULL"
    );
    let retries = concat!(
        "UPDATE tasks SET not_before_time = not_before_time + $1 WHERE ",
        delayed!(),
        " AND not_before_time IS NOT NULL AND has_retry_delay = 1"
    );
    let approvals = concat!(
        "UPDATE approvals SET expire_time = expire_time + $1 WHERE ",
        undecided!(),
        " AND expire_time IS NOT NULL AND has_ttl = 1"
    );
    tx.cache().forget_all_states();
    for sql in [leases, graces, retries, approvals] {
        tx.write(sql, params![step.micros()])?;
    }
    // Cached results of claims are valid until the next delayed task is due, and that time may have moved.
    tx.next_claim_version().map(drop)
}

/// Extends the leases and grace periods that were live at `live_at`, so that lease holders can report after a server
/// outage before their leases expire. If the duration of a lease is shorter than `RECOVERY` (30 s), the extended lease
/// expires one lease duration after `now`. Other extended leases expire `RECOVERY` after `now`, and extended grace
/// periods end `RECOVERY` after `now`. Returns the number of extended leases and grace periods.
pub fn recover(tx: &mut dyn Tx, live_at: Timestamp, now: Timestamp) -> Result<u64> {
    let short_leases = concat!(
        "UPDATE tasks SET lease_expire_time = $2 + lease_duration
        WHERE ",
        leased!(),
        " AND lease_duration < $3 AND lease_expire_time > $1
            AND lease_expire_time < $2 + lease_duration"
    );
    let long_leases = concat!(
        "UPDATE tasks SET lease_expire_time = CAST($2 AS BIGINT) + $3
        WHERE ",
        leased!(),
        " AND lease_duration >= $3 AND lease_expire_time > $1 AND lease_expire_time < CAST($2 AS BIGINT) + $3"
    );
    let graces = concat!(
        "UPDATE runs SET grace_end_time = CAST($2 AS BIGINT) + $3
        WHERE ",
        in_grace!(),
        " AND grace_end_time > $1 AND grace_end_time < CAST($2 AS BIGINT) + $3"
    );
    let recovery: Duration = lease::RECOVERY;
    tx.cache().forget_all_states();
    let mut extended = 0;
    for sql in [short_leases, long_leases, graces] {
        extended += tx.execute(sql, params![live_at, now, recovery])?;
    }
    Ok(extended)
}
