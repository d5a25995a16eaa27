//! This module manages a pool of connections that read a PostgreSQL database.

use std::sync::Arc;
use std::time::Duration;

use super::PostgresTx;
use super::address::PostgresAddress;
use super::connection::Connection;
use crate::clock::{Clock, IdGenerator};
use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::readers::{READERS, ReadPool, Readers};

/// Maximum time for which a read waits for a connection while the server can't reach the database.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Lets a read pause between two statements, for example while it writes a snapshot to a slow disk. A read holds no lock.
const ALLOW_PAUSES: &str = "SET idle_in_transaction_session_timeout = '60s'";

/// Number of attempts of a read. When the database restarts, each idle connection of the pool is lost.
const ATTEMPTS: u32 = READERS + 2;

/// Opens the connections of the pool.
struct Connector {
    address: PostgresAddress,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ConnectError(String);

impl r2d2::ManageConnection for Connector {
    type Connection = Connection;
    type Error = ConnectError;

    fn connect(&self) -> Result<Connection, ConnectError> {
        let mut connection = Connection::open(&self.address).map_err(ConnectError)?;
        connection.run_script(ALLOW_PAUSES).map_err(|error| ConnectError(error.to_string()))?;
        Ok(connection)
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), ConnectError> {
        if connection.is_closed() { Err(ConnectError("the connection is lost".to_owned())) } else { Ok(()) }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        is_lost(connection)
    }
}

/// Returns whether the connection is lost. A lost connection can first show itself by the failure of a statement.
fn is_lost(connection: &Connection) -> bool {
    connection.is_closed() || connection.failure().is_some()
}

struct PostgresPool {
    connections: r2d2::Pool<Connector>,
    clock: Arc<dyn Clock>,
}

/// Opens connections, and returns the readers of the database.
pub(super) fn open(address: PostgresAddress, clock: Arc<dyn Clock>) -> Readers {
    let connections = r2d2::Pool::builder()
        .max_size(READERS + 1)
        .min_idle(Some(1))
        .connection_timeout(CONNECT_TIMEOUT)
        .error_handler(Box::new(r2d2::NopErrorHandler))
        .build_unchecked(Connector { address });
    Readers::new(PostgresPool { connections, clock }, Arc::default(), Arc::default())
}

impl ReadPool for PostgresPool {
    fn read(&self, body: &mut dyn FnMut(&mut dyn Tx)) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let mut connection = self.connections.get().map_err(|_| Error::StoreBusy)?;
            self.read_on(&mut connection, body);
            if !is_lost(&connection) {
                return Ok(());
            }
        }
        Err(Error::StoreBusy)
    }
}

impl PostgresPool {
    /// Runs a body in a read transaction. If the connection is lost, the result of the body is an error.
    fn read_on(&self, connection: &mut Connection, body: &mut dyn FnMut(&mut dyn Tx)) {
        connection.forget_failure();
        connection.send_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        body(&mut PostgresTx::new(connection, self.clock.as_ref(), &IdGenerator::new(), None));
        let _ = connection.settle();
        connection.forget_failure();
        connection.send_sql("ROLLBACK");
        // Ignore the failure: the pool drops a connection that has failed.
        let _ = connection.settle();
    }
}
