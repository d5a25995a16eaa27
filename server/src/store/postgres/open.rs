//! This module opens a PostgreSQL database: it creates or migrates the tables, registers the server, and opens the
//! connections.

use std::sync::Arc;

use super::address::PostgresAddress;
use super::connection::Connection;
use super::schema::Migrated;
use super::writer::PostgresWriter;
use super::{listener, readers, schema, servers};
use crate::clock::{Clock, IdGenerator};
use crate::error::{Error, Result};
use crate::store::notifications::Notifications;
use crate::store::readers::Readers;
use crate::store::session::LastAssigned;
use crate::store::{OpenError, counters, first};

/// An open database.
pub(in crate::store) struct Database {
    pub writer: PostgresWriter,
    pub readers: Readers,
    /// Last numbers that committed transactions have assigned.
    pub last_assigned: LastAssigned,
    /// Identifier of this database. A cursor is valid only for one log_id.
    pub log_id: String,
    /// The name and version of the database.
    pub version: String,
    /// Id of this server in the table `servers`.
    pub server_id: String,
    address: PostgresAddress,
}

impl Database {
    /// Returns a future that receives the notifications of other servers until it is dropped.
    pub fn listen(&self, notifications: Arc<Notifications>) -> impl Future<Output = ()> + Send + use<> {
        listener::run(self.address.clone(), self.server_id.clone(), notifications)
    }
}

/// The values that the server needs from a database that it has just opened.
struct Prepared {
    server_id: String,
    last_assigned: LastAssigned,
    log_id: String,
    version: String,
}

/// Creates or migrates the tables, and opens the connections. Fails if the server can't reach the database, or if a
/// newer version of Runhub has migrated the database.
pub(in crate::store) fn open(address: PostgresAddress, clock: &Arc<dyn Clock>) -> Result<Database, OpenError> {
    let prepared = on_own_thread(&address, || prepare(&address, clock.as_ref()))?;
    let readers = readers::open(address.clone(), Arc::clone(clock));
    let Prepared { server_id, last_assigned, log_id, version } = prepared;
    let writer = PostgresWriter::new(address.clone(), Arc::clone(clock), server_id.clone());
    Ok(Database { writer, readers, last_assigned, log_id, version, server_id, address })
}

/// Creates or migrates the tables of a database. Fails if the server can't reach the database, or if a newer version of
/// Runhub has migrated the database.
pub fn migrate(address: &PostgresAddress) -> Result<Migrated, OpenError> {
    on_own_thread(address, || {
        let mut connection = Connection::open(address).map_err(|cause| unreachable(address, cause))?;
        let migrated =
            schema::migrate(&mut connection, address).map_err(|cause| unreachable(address, cause.to_string()))?;
        if migrated.to > schema::SCHEMA_VERSION {
            return Err(OpenError::NewerSchema(address.to_string()));
        }
        Ok(migrated)
    })
}

/// Runs a function on another thread. A thread of a runtime can't drive the runtime of a connection.
pub(super) fn on_own_thread<T: Send>(
    address: &PostgresAddress,
    run: impl FnOnce() -> Result<T, OpenError> + Send,
) -> Result<T, OpenError> {
    let panicked = || Err(unreachable(address, "the thread panicked: report the bug".to_owned()));
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|_| panicked()))
}

pub(super) fn unreachable(address: &PostgresAddress, cause: String) -> OpenError {
    OpenError::Unreachable { database: address.to_string(), cause }
}

fn prepare(address: &PostgresAddress, clock: &dyn Clock) -> Result<Prepared, OpenError> {
    let mut connection = Connection::open(address).map_err(|cause| unreachable(address, cause))?;
    let failed = |cause: Error| unreachable(address, cause.to_string());
    let version = if address.allows_migration() {
        Some(schema::migrate(&mut connection, address).map_err(failed)?.to)
    } else {
        schema::read_version(&mut connection, address).map_err(failed)?
    };
    match version {
        Some(schema::SCHEMA_VERSION) => {}
        Some(newer) if newer > schema::SCHEMA_VERSION => return Err(OpenError::NewerSchema(address.to_string())),
        _ => return Err(OpenError::NotMigrated(address.to_string())),
    }
    schema::skip_numbers_of_other_timeline(&mut connection).map_err(failed)?;
    follow_clock(&mut connection, clock).map_err(failed)?;
    register(&mut connection, address, clock).map_err(failed)
}

/// Sets the clock of the server to the clock of the database.
fn follow_clock(connection: &mut Connection, clock: &dyn Clock) -> Result<()> {
    // The first statement is prepared, and takes longer.
    schema::with_tx(connection, servers::read_time)?;
    let asked = clock.uptime();
    let time = schema::with_tx(connection, servers::read_time)?;
    clock.follow((asked + clock.uptime()) / 2, time);
    clock.adopt(clock.step());
    Ok(())
}

fn register(connection: &mut Connection, address: &PostgresAddress, clock: &dyn Clock) -> Result<Prepared> {
    let server_id = IdGenerator::new().next(clock.now());
    let prepared = schema::with_tx(connection, |tx| {
        let counters = counters::load_or_create(tx)?;
        servers::insert(tx, &server_id, clock.now())?;
        let version = first(tx, "SELECT CURRENT_SETTING('server_version')", &[], |row| row.take::<String>())?;
        let version = format!("postgresql {}, {address}", version.unwrap_or_default());
        Ok(Prepared { server_id, last_assigned: counters.last_assigned, log_id: counters.log_id, version })
    })?;
    connection.settle()?;
    Ok(prepared)
}
