//! This module reads and writes the table `servers`, which lists the servers that use the database.

use std::time::Duration;

use super::roles;
use crate::domain::server::Server;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::counters::save_counters;
use crate::store::session::LastAssigned;
use crate::store::{Tx, all, first, params, row_limit};

/// Time after which a server that has not recorded that it is alive counts as dead.
pub(super) const ALIVE: Duration = Duration::from_secs(5);

/// Expands to the time of the database in microseconds since the Unix epoch. The clocks of the servers differ.
macro_rules! database_time {
    () => {
        "CAST(EXTRACT(EPOCH FROM CLOCK_TIMESTAMP()) * 1000000 AS BIGINT)"
    };
}
pub(super) use database_time;

/// Returns the time of the database.
pub(in crate::store) fn read_time(tx: &mut dyn Tx) -> Result<Timestamp> {
    let time = first(tx, concat!("SELECT ", database_time!()), &[], |row| row.take())?;
    time.ok_or_else(|| Error::internal("the database returned no time: report the bug"))
}

/// Adds this server.
pub(super) fn insert(tx: &mut dyn Tx, id: &str, start_time: Timestamp) -> Result<()> {
    let sql = concat!(
        "INSERT INTO servers (id, version, last_group, start_time, alive_time) VALUES ($1, $2, 0, $3, ",
        database_time!(),
        ")"
    );
    tx.write(sql, params![id, env!("CARGO_PKG_VERSION"), start_time])
}

/// Records that a server is alive.
pub(super) fn record_alive(tx: &mut dyn Tx, id: &str) -> Result<()> {
    tx.write(concat!("UPDATE servers SET alive_time = ", database_time!(), " WHERE id = $1"), params![id])
}

/// Expands to the statement that records the number of the newest transaction of a server. The parameters of the macro
/// are the placeholders of the server's id and of the number.
macro_rules! record_group {
    ($id:literal, $group:literal) => {
        concat!("UPDATE servers SET last_group = ", $group, ", alive_time = ", database_time!(), " WHERE id = ", $id)
    };
}

/// Records the number of a server's newest transaction in this transaction.
pub(super) fn record_group(tx: &mut dyn Tx, id: &str, group: i64) -> Result<()> {
    tx.write(record_group!("$1", "$2"), params![id, group])
}

/// A transaction of a server, as the other servers see it.
pub(super) struct Group<'a> {
    /// The id of the server.
    pub server_id: &'a str,
    /// The number of the transaction.
    pub number: i64,
    /// The channel of the notification.
    pub channel: &'a str,
    /// The payload of the notification.
    pub payload: &'a str,
}

/// Stores the last assigned numbers, records the number of a server's newest transaction in this transaction, and
/// notifies the other servers when this transaction is committed. One statement does all, because each statement costs
/// time at each commit.
pub(super) fn record_commit(tx: &mut dyn Tx, last_assigned: LastAssigned, group: &Group) -> Result<()> {
    let sql = concat!(
        "WITH counted AS (",
        save_counters!(),
        "), recorded AS (",
        record_group!("$5", "$6"),
        ") SELECT CAST(pg_notify($7, $8) AS TEXT)"
    );
    let LastAssigned { position, key, claim_version } = last_assigned;
    let Group { server_id, number, channel, payload } = group;
    tx.write(sql, params![position, key, claim_version, tx.now(), server_id, number, channel, payload])
}

/// Stores the address at which clients reach a server.
pub(in crate::store) fn set_address(tx: &mut dyn Tx, id: &str, address: &str) -> Result<()> {
    tx.write("UPDATE servers SET address = $2 WHERE id = $1", params![id, address])
}

/// Maximum number of listed servers.
const MAX_SERVERS: usize = 1_000;

/// Returns the living servers, in the order in which they started.
pub(in crate::store) fn list(tx: &mut dyn Tx) -> Result<Vec<Server>> {
    let sql = concat!(
        "SELECT s.id, s.address, s.version, s.start_time, s.alive_time,
            (SELECT COUNT(*) FROM roles r WHERE r.name = $1 AND r.server_id = s.id AND r.renew_time + $2 > ",
        database_time!(),
        ") FROM servers s WHERE s.alive_time + $3 >= ",
        database_time!(),
        " ORDER BY s.id LIMIT $4"
    );
    all(tx, sql, params![roles::SWEEPER, roles::ROLE_LEASE, ALIVE, row_limit(MAX_SERVERS)], |row| {
        Ok(Server {
            id: row.take()?,
            address: row.take()?,
            version: row.take()?,
            start_time: row.take()?,
            alive_time: row.take()?,
            is_sweeper: row.take()?,
        })
    })
}

/// Returns the number of a server's newest committed transaction.
pub(super) fn last_group(tx: &mut dyn Tx, id: &str) -> Result<Option<i64>> {
    first(tx, "SELECT last_group FROM servers WHERE id = $1", params![id], |row| row.take())
}

/// Removes a server that has stopped.
pub(super) fn remove(tx: &mut dyn Tx, id: &str) -> Result<()> {
    tx.execute("DELETE FROM servers WHERE id = $1", params![id]).map(drop)
}
