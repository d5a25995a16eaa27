//! Rows that become due as time passes: expired leases, graces that end, approvals that expire, and tasks whose
//! `not_before_time` passes.

use std::time::Duration;

use super::names::{ready, run_status, task_status, verdict};
use super::{Tx, all, first, params};
use crate::domain::Key;
use crate::domain::lease;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// The condition of the partial index of leases.
macro_rules! leased {
    () => {
        concat!("status = ", task_status!(IN_PROGRESS))
    };
}
/// The condition of the partial index of graces.
macro_rules! in_grace {
    () => {
        concat!("status = ", run_status!(CANCELLING))
    };
}
/// The condition of the partial index of approvals that can expire.
macro_rules! undecided {
    () => {
        concat!("verdict = ", verdict!(PENDING), " AND has_expired = 0")
    };
}

/// The rows that are due.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// Tasks whose lease has expired.
    pub leases: Vec<Key>,
    /// Runs whose grace has ended.
    pub graces: Vec<Key>,
    /// Approvals that were not decided in time.
    pub approvals: Vec<Key>,
    /// Runs with tasks that have become ready, and the number of these tasks.
    pub newly_ready: Vec<(Key, usize)>,
}

impl Due {
    /// Returns whether no transaction is necessary. Newly ready tasks need none.
    pub fn changes_nothing(&self) -> bool {
        self.leases.is_empty() && self.graces.is_empty() && self.approvals.is_empty()
    }
}

/// Returns what is due now, at most 100 of each kind, and the tasks that have become ready after `since`.
pub fn find(tx: &mut dyn Tx, since: Timestamp, now: Timestamp) -> Result<Due> {
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
        ready!(),
        " AND not_before_time IS NOT NULL AND not_before_time > $1 AND not_before_time <= $2"
    );
    Ok(Due {
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

/// Returns when something becomes due next, or None if nothing does. What is overdue counts, except tasks whose
/// `not_before_time` has passed.
pub fn next(tx: &mut dyn Tx, now: Timestamp) -> Result<Option<Timestamp>> {
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
    // Also of tasks with open dependencies: nothing sets the timer again when these are completed.
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

/// Extends every lease that was live at a time, so that it expires `RECOVERY` or its duration from now, whichever is
/// less; graces likewise. Returns the number of extended leases and graces. After a time without a server, holders can
/// report first.
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
