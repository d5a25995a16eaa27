//! This module reads and writes the table `roles`. One server at a time has the role of the sweeper.

use std::time::Duration;

use super::servers::{ALIVE, database_time};
use crate::domain::time::ClockStep;
use crate::error::Result;
use crate::store::{RoleClaim, Tx, any, counters, due, first, params, path_sets};

/// Time after the last renewal at which a server loses the role.
pub(super) const ROLE_LEASE: Duration = Duration::from_secs(1);

/// Name of the role of the sweeper.
pub(super) const SWEEPER: &str = "sweeper";

/// The server that has the role or had it last.
struct Holder {
    server_id: String,
    /// Time since the last renewal. The clock of the database measures it, because the clocks of the servers differ.
    unrenewed_for: Duration,
}

impl Holder {
    fn has_role(&self) -> bool {
        self.unrenewed_for < ROLE_LEASE
    }
}

fn find_holder(tx: &mut dyn Tx) -> Result<Option<Holder>> {
    let sql = concat!("SELECT server_id, GREATEST(", database_time!(), " - renew_time, 0) FROM roles WHERE name = $1");
    first(tx, sql, params![SWEEPER], |row| Ok(Holder { server_id: row.take()?, unrenewed_for: row.take()? }))
}

/// Returns whether another server has the role. A server that asks often uses this read, because `claim` writes.
pub(in crate::store) fn is_held_by_other(tx: &mut dyn Tx, server_id: &str) -> Result<bool> {
    Ok(find_holder(tx)?.is_some_and(|holder| holder.server_id != server_id && holder.has_role()))
}

/// Takes or renews the role of the sweeper for a server. If no server is alive, first does the work that each start of a
/// server on SQLite does.
pub(in crate::store) fn claim(tx: &mut dyn Tx, server_id: &str) -> Result<RoleClaim> {
    let claim = match find_holder(tx)? {
        // No other server has taken the role since. If the server stalled, it finds out by itself.
        Some(holder) if holder.server_id == server_id => RoleClaim::Renewed,
        Some(holder) if holder.has_role() => return Ok(RoleClaim::HeldByOther),
        // Nobody has swept since the last renewal.
        Some(holder) => RoleClaim::TakenAfter(Some(tx.now().subtract_duration(holder.unrenewed_for))),
        None if is_another_alive(tx, server_id)? => RoleClaim::TakenAfter(None),
        None => {
            start_alone(tx)?;
            RoleClaim::TakenAfter(Some(RoleClaim::ALL_TIMES))
        }
    };
    let sql = concat!(
        "INSERT INTO roles (name, server_id, renew_time) VALUES ($1, $2, ",
        database_time!(),
        ") ON CONFLICT (name) DO UPDATE SET server_id = excluded.server_id, renew_time = excluded.renew_time"
    );
    tx.write(sql, params![SWEEPER, server_id])?;
    Ok(claim)
}

fn is_another_alive(tx: &mut dyn Tx, server_id: &str) -> Result<bool> {
    let sql = concat!("SELECT id FROM servers WHERE id <> $1 AND alive_time + $2 >= ", database_time!(), " LIMIT 1");
    any(tx, sql, params![server_id, ALIVE])
}

/// Removes the path sets that no claim index of another server needs, and follows the clock if it was set back while no
/// server ran.
fn start_alone(tx: &mut dyn Tx) -> Result<()> {
    path_sets::remove_unused(tx)?;
    let Some(counters) = counters::load(tx)? else { return Ok(()) };
    let step = ClockStep::between(counters.last_commit_time, tx.now());
    if step < ClockStep::NONE {
        due::move_durations(tx, step)?;
        tracing::warn!(step_seconds = step.size().as_secs(), "the clock was set back while no server ran");
    }
    Ok(())
}

/// Gives the role up, so that another server can take it at once.
pub(in crate::store) fn resign(tx: &mut dyn Tx, server_id: &str) -> Result<()> {
    tx.execute("DELETE FROM roles WHERE server_id = $1", params![server_id]).map(drop)
}
