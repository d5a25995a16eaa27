//! What falls due as time passes: leases, graces, approvals, and tasks that may be given out from now on.
//!
//! The literals make the partial indexes usable: of tasks 1 is PENDING and 2 IN_PROGRESS, of runs 5 is CANCELLING, of
//! approvals 1 is PENDING.

use std::time::Duration;

use super::{Tx, all, first, params};
use crate::domain::Key;
use crate::domain::lease;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// What is due.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// Tasks whose lease has run out.
    pub leases: Vec<Key>,
    /// Runs whose grace is over.
    pub graces: Vec<Key>,
    /// Approvals nobody decided in time.
    pub approvals: Vec<Key>,
    /// Runs with tasks whose time has come since the last look, and how many.
    pub in_time: Vec<(Key, usize)>,
}

impl Due {
    /// Nothing of it has to be written down.
    pub fn changes_nothing(&self) -> bool {
        self.leases.is_empty() && self.graces.is_empty() && self.approvals.is_empty()
    }
}

/// What is due now, so much of it as is taken up at once. Tasks are told of once: since one has looked before.
pub fn look(tx: &mut dyn Tx, since: Timestamp, now: Timestamp) -> Result<Due> {
    let leases = "SELECT key FROM tasks WHERE status = 2 AND lease_expire_time <= $1
        ORDER BY lease_expire_time LIMIT 100";
    let graces = "SELECT key FROM runs WHERE status = 5 AND grace_end_time <= $1 LIMIT 100";
    let approvals = "SELECT key FROM approvals WHERE verdict = 1 AND has_expired = 0 AND expire_time <= $1
        ORDER BY expire_time LIMIT 100";
    let in_time = "SELECT run_key FROM tasks
        WHERE status = 1 AND not_before_time IS NOT NULL AND not_before_time > $1 AND not_before_time <= $2";
    Ok(Due {
        leases: all(tx, leases, params![now], |row| row.take())?,
        graces: all(tx, graces, params![now], |row| row.take())?,
        approvals: all(tx, approvals, params![now], |row| row.take())?,
        in_time: counted(all(tx, in_time, params![since, now], |row| row.take())?),
    })
}

fn counted(mut run_keys: Vec<Key>) -> Vec<(Key, usize)> {
    run_keys.sort_unstable();
    run_keys.chunk_by(|one, next| one == next).map(|of_run| (of_run[0], of_run.len())).collect()
}

/// When the next thing falls due after a time, as far as is known now.
pub fn next(tx: &mut dyn Tx, now: Timestamp) -> Result<Option<Timestamp>> {
    let leases = "SELECT lease_expire_time FROM tasks WHERE status = 2 AND lease_expire_time IS NOT NULL
        ORDER BY lease_expire_time LIMIT 1";
    let graces = "SELECT grace_end_time FROM runs WHERE status = 5 AND grace_end_time IS NOT NULL
        ORDER BY grace_end_time LIMIT 1";
    let approvals =
        "SELECT expire_time FROM approvals WHERE verdict = 1 AND has_expired = 0 AND expire_time IS NOT NULL
        ORDER BY expire_time LIMIT 1";
    let tasks = "SELECT not_before_time FROM tasks
        WHERE status = 1 AND not_before_time IS NOT NULL AND not_before_time > $1
        ORDER BY not_before_time LIMIT 1";
    let times = [
        first(tx, leases, &[], |row| row.take())?,
        first(tx, graces, &[], |row| row.take())?,
        first(tx, approvals, &[], |row| row.take())?,
        first(tx, tasks, params![now], |row| row.take())?,
    ];
    Ok(times.into_iter().flatten().min())
}

/// Lets every lease that was live at a time live its duration or 30 s from now, whichever is less, and graces with them:
/// after a time without a server, holders report first.
pub fn recover(tx: &mut dyn Tx, live_at: Timestamp, now: Timestamp) -> Result<u64> {
    let short = "UPDATE tasks SET lease_expire_time = $2 + lease_duration
        WHERE status = 2 AND lease_duration < $3 AND lease_expire_time > $1 AND lease_expire_time < $2 + lease_duration";
    let long = "UPDATE tasks SET lease_expire_time = $2 + $3
        WHERE status = 2 AND lease_duration >= $3 AND lease_expire_time > $1 AND lease_expire_time < $2 + $3";
    let graces = "UPDATE runs SET grace_end_time = $2 + $3
        WHERE status = 5 AND grace_end_time > $1 AND grace_end_time < $2 + $3";
    let recovery: Duration = lease::RECOVERY;
    let mut extended = 0;
    for sql in [short, long, graces] {
        extended += tx.execute(sql, params![live_at, now, recovery])?;
    }
    Ok(extended)
}
