//! This module finds rows that become due at a certain time: expired leases, ended grace periods, expired approvals,
//! and tasks whose `not_before_time` has passed.

use std::time::Duration;

use super::names::{dependencies_met, run_status, task_status, verdict};
use super::{Tx, all, first, params};
use crate::domain::Key;
use crate::domain::lease;
use crate::domain::time::Timestamp;
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
    /// Keys of the runs whose grace period has ended.
    pub graces: Vec<Key>,
    /// Keys of the pending approvals whose expiry time has passed.
    pub approvals: Vec<Key>,
    /// Keys of the runs that have newly ready tasks, each with the number of newly ready tasks in the run. If the
    /// `not_before_time` of a task passed in the period that `find` checked, the task is newly ready.
    pub newly_ready: Vec<(Key, usize)>,
}

impl DueRows {
    /// Returns whether no lease, grace period or approval is due. Newly ready tasks do not count, because the sweeper
    /// only sends notifications for newly ready tasks and changes no row.
    pub fn changes_nothing(&self) -> bool {
        self.leases.is_empty() && self.graces.is_empty() && self.approvals.is_empty()
    }
}

/// Returns the leases, grace periods and approvals that are due at `now`, at most 100 of each kind. Also counts, for
/// each run, the ready tasks whose `not_before_time` passed after `since` and by `now`.
pub fn find(tx: &mut dyn Tx, since: Timestamp, now: Timestamp) -> Result<DueRows> {
    let leases = concat!(
        "SELECT key FROM tasks WHERE ",
        leased!(),
        " AND lease_expire_time <= $1 ORDER BY lease_expire_time LIMIT 100"
    );
    let graces = concat!("SELECT key FROM runs WHERE ", in_grace!(), " AND grace_end_time <= $1 LIMIT 100");
    let approvals = concat!(
        "SELECT key FROM approvals WHERE ",
        undecided!(),
        " AND expire_time <= $1 ORDER BY expire_time LIMIT 100"
    );
    let newly_ready = concat!(
        "SELECT run_key FROM tasks
        WHERE ",
        dependencies_met!(),
        " AND not_before_time IS NOT NULL AND not_before_time > $1 AND not_before_time <= $2"
    );
    Ok(DueRows {
        leases: all(tx, leases, params![now], |row| row.take())?,
        graces: all(tx, graces, params![now], |row| row.take())?,
        approvals: all(tx, approvals, params![now], |row| row.take())?,
        newly_ready: count_by_run(all(tx, newly_ready, params![since, now], |row| row.take())?),
    })
}

fn count_by_run(mut run_keys: Vec<Key>) -> Vec<(Key, usize)> {
    run_keys.sort_unstable();
    run_keys.chunk_by(|one, next| one == next).map(|of_run| (of_run[0], of_run.len())).collect()
}

/// Returns the earliest time at which a row becomes due, or None if no row will become due. If a lease, grace period
/// or approval is overdue, the time is in the past. Tasks whose `not_before_time` has passed by `now` do not count.
pub fn next_due_time(tx: &mut dyn Tx, now: Timestamp) -> Result<Option<Timestamp>> {
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
    // Include tasks with open dependencies, because the completion of the dependencies does not set the sweeper's
    // timer.
    let tasks = concat!(
        "SELECT not_before_time FROM tasks
        WHERE status = ",
        task_status!(PENDING),
        " AND not_before_time IS NOT NULL AND not_before_time > $1
        ORDER BY not_before_time LIMIT 1"
    );
    let times = [
        first(tx, leases, &[], |row| row.take())?,
        first(tx, graces, &[], |row| row.take())?,
        first(tx, approvals, &[], |row| row.take())?,
        first(tx, tasks, params![now], |row| row.take())?,
    ];
    Ok(times.into_iter().flatten().min())
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
        "UPDATE tasks SET lease_expire_time = $2 + $3
        WHERE ",
        leased!(),
        " AND lease_duration >= $3 AND lease_expire_time > $1 AND lease_expire_time < $2 + $3"
    );
    let graces = concat!(
        "UPDATE runs SET grace_end_time = $2 + $3
        WHERE ",
        in_grace!(),
        " AND grace_end_time > $1 AND grace_end_time < $2 + $3"
    );
    let recovery: Duration = lease::RECOVERY;
    let mut extended = 0;
    for sql in [short_leases, long_leases, graces] {
        extended += tx.execute(sql, params![live_at, now, recovery])?;
    }
    Ok(extended)
}
