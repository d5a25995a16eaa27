//! This module implements the writer's session on a connection to PostgreSQL.
//!
//! The writers of all servers take turns: a transaction begins by locking the only row of the table `counters`. Therefore,
//! positions ascend in the order of the commits, each transaction sees all transactions before it, and no transaction
//! has to be repeated because of another one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::address::PostgresAddress;
use super::connection::Connection;
use super::payload::Payload;
use super::schema::{self, SCHEMA_VERSION};
use super::servers::Group;
use super::{PostgresTx, roles, servers};
use crate::clock::{Clock, IdGenerator};
use crate::error::{Error, Result};
use crate::store::body_tx::OpenTransaction;
use crate::store::session::{BodyEffects, CommitOutcome, LastAssigned, ReadAhead, WriteDatabase, WriteSession};
use crate::store::{Columns, Signal, Transaction, Tx, first, runs, tasks};

/// Maximum time to wait for the result of a commit. Afterwards, the server closes the connection and finds out on a new
/// connection whether the transaction was committed.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time to find out whether a transaction was committed.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two attempts to connect.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(100);

const LOCK_COUNTERS: &str = "SELECT last_position, last_key, claim_version, schema_version FROM counters FOR UPDATE";

/// Reads the runs that the calls of a group name.
const READ_RUNS: &str = "SELECT r.id, r.key, r.status, r.grace_end_time, c.last_seq
    FROM live_runs r JOIN run_counters c ON c.run_key = r.key WHERE r.id = ANY($1)";

/// Owns the settings with which the writer's session connects to the database.
pub(in crate::store) struct PostgresWriter {
    address: PostgresAddress,
    clock: Arc<dyn Clock>,
    ids: IdGenerator,
    /// The id of this server in the table `servers`.
    server_id: String,
}

impl PostgresWriter {
    pub fn new(address: PostgresAddress, clock: Arc<dyn Clock>, server_id: String) -> Self {
        Self { address, clock, ids: IdGenerator::new(), server_id }
    }
}

impl WriteDatabase for PostgresWriter {
    type Session<'a> = PostgresSession<'a>;

    fn session(&self) -> PostgresSession<'_> {
        PostgresSession {
            database: self,
            connection: None,
            transaction: OpenTransaction::default(),
            group: 0,
            is_open: false,
        }
    }

    fn close(self) {
        let removed = Connection::open(&self.address).map_err(|_| Error::StoreBusy).and_then(|mut connection| {
            let mut tx = PostgresTx::new(&mut connection, self.clock.as_ref(), &self.ids, None);
            roles::resign(&mut tx, &self.server_id)?;
            servers::remove(&mut tx, &self.server_id)
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "can't remove this server from the list of servers");
        }
    }
}

/// Runs transactions on a connection of a `PostgresWriter`. If the connection is lost, the next transaction connects
/// again.
pub(in crate::store) struct PostgresSession<'a> {
    database: &'a PostgresWriter,
    connection: Option<Connection>,
    transaction: OpenTransaction,
    /// Number of the newest transaction that has written. The database stores the number with the transaction, so the
    /// server can find out whether the transaction was committed.
    group: i64,
    /// Whether `begin` has opened a transaction that has not ended.
    is_open: bool,
}

impl PostgresSession<'_> {
    /// Returns the connection. If the connection is lost, connects again.
    fn connect(&mut self) -> Result<&mut Connection> {
        if self.connection.as_ref().is_none_or(Connection::is_closed) {
            self.connection = None;
            let opened = Connection::open(&self.database.address);
            let mut connection = opened.map_err(|cause| {
                tracing::warn!(database = %self.database.address, cause, "can't connect to the database");
                Error::StoreBusy
            })?;
            schema::skip_numbers_of_other_timeline(&mut connection)?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(Error::StoreBusy)
    }

    fn require_connection(&mut self) -> Result<&mut Connection> {
        self.connection.as_mut().ok_or(Error::StoreBusy)
    }

    /// Runs a transaction body of the store itself on the connection, in the open transaction.
    fn with_tx<T>(
        &mut self,
        last_assigned: Option<LastAssigned>,
        body: impl FnOnce(&mut dyn Tx) -> Result<T>,
    ) -> Result<T> {
        let PostgresWriter { clock, ids, .. } = self.database;
        let connection = self.connection.as_mut().ok_or(Error::StoreBusy)?;
        body(&mut PostgresTx::new(connection, clock.as_ref(), ids, last_assigned))
    }

    fn try_begin<'r>(&mut self, ahead: impl Iterator<Item = &'r ReadAhead>) -> Result<LastAssigned> {
        let connection = self.connect()?;
        connection.forget_failure();
        connection.send_sql("BEGIN");
        self.is_open = true;
        let mut run_ids = BTreeSet::new();
        let mut task_ids = BTreeSet::new();
        let mut claims: HashMap<&str, usize> = HashMap::new();
        for ahead in ahead {
            run_ids.extend(ahead.run_id.as_deref());
            task_ids.extend(ahead.task_id.as_deref());
            if let Some(run_id) = ahead.run_id.as_deref().filter(|_| ahead.claims_task) {
                *claims.entry(run_id).or_default() += 1;
            }
        }
        let queries = [(LOCK_COUNTERS, BTreeSet::new()), (READ_RUNS, run_ids), (tasks::SMALL_WITH_IDS, task_ids)];
        let [counters, runs, tasks] = self.require_connection()?.query_together(queries)?;
        let row = counters.first().ok_or_else(no_counters)?;
        let (last_assigned, version) = read_counters(&mut Columns::new(row))?;
        if version > SCHEMA_VERSION {
            return Err(Error::StoreFailed(format!(
                "a newer runhub has migrated the database to the schema version {version}: upgrade this runhub"
            )));
        }
        self.transaction.begin(last_assigned.key);
        self.cache_rows(&runs, &tasks, &claims)?;
        Ok(last_assigned)
    }

    /// Caches the rows that were read after the counters were locked, so that they contain the changes of all earlier
    /// transactions. `claims` holds the number of claims in the group by the id of the run.
    fn cache_rows(&mut self, runs: &[Row], tasks: &[Row], claims: &HashMap<&str, usize>) -> Result<()> {
        let cache = self.transaction.cache();
        let mut claims_by_key = HashMap::new();
        for row in runs {
            let mut columns = Columns::new(row);
            let id: String = columns.take()?;
            let state = runs::read_state(&mut columns)?;
            claims_by_key.extend(claims.get(id.as_str()).map(|count| (state.key, *count)));
            cache.add_state(Some(&id), state);
            cache.add_last_seq(state.key, columns.take()?);
        }
        let ahead = cache.start_reading_ahead(claims_by_key);
        for row in tasks {
            let (task, has_dependents) = tasks::read_with_dependents(&mut Columns::new(row))?;
            ahead.add(task, has_dependents);
        }
        Ok(())
    }

    /// Sends all that a commit stores, and the commit itself.
    fn send_commit(&mut self, last_assigned: LastAssigned, has_written: bool, signals: &[Signal]) -> Result<()> {
        if has_written {
            self.group += 1;
            let PostgresWriter { server_id, address, clock, ids } = self.database;
            let payload = Payload::encode(server_id, last_assigned.position, signals);
            // The channel has the name of the schema.
            let group = Group { server_id, number: self.group, channel: address.schema(), payload: &payload };
            let connection = self.connection.as_mut().ok_or(Error::StoreBusy)?;
            let tx = PostgresTx::new(connection, clock.as_ref(), ids, Some(last_assigned));
            self.transaction.store_numbers(tx, |tx| servers::record_commit(tx, last_assigned, &group))?;
        }
        let connection = self.require_connection()?;
        connection.take_warning();
        connection.send_sql("COMMIT");
        connection.settle_within(COMMIT_TIMEOUT)
    }

    /// Finds out whether the newest transaction was committed, after the result of the commit was lost.
    fn resolve(&mut self) -> CommitOutcome {
        self.connection = None;
        let begun = Instant::now();
        loop {
            match self.was_committed() {
                Ok(true) => return CommitOutcome::Committed,
                Ok(false) => return CommitOutcome::Disconnected,
                Err(_) if begun.elapsed() < RESOLVE_TIMEOUT => std::thread::sleep(RECONNECT_INTERVAL),
                Err(error) => {
                    tracing::error!(%error, "can't find out whether a transaction was committed");
                    return CommitOutcome::Unknown;
                }
            }
        }
    }

    /// Returns whether the database contains the newest transaction. The lock of `counters` waits until the database has
    /// decided about the transaction. If the transaction is there, the function commits another change, because the
    /// answers must wait until a standby has the transaction, too.
    fn was_committed(&mut self) -> Result<bool> {
        let group = self.group;
        let server_id = self.database.server_id.clone();
        let connection = self.connect()?;
        connection.forget_failure();
        connection.send_sql("BEGIN");
        let last_group = self.with_tx(None, |tx| {
            lock_counters(tx)?;
            let last_group = servers::last_group(tx, &server_id)?;
            servers::record_group(tx, &server_id, last_group.unwrap_or(0))?;
            Ok(last_group)
        })?;
        let connection = self.require_connection()?;
        connection.take_warning();
        connection.send_sql("COMMIT");
        connection.settle_within(COMMIT_TIMEOUT)?;
        if connection.take_warning() { Err(Error::StoreBusy) } else { Ok(last_group == Some(group)) }
    }
}

/// Locks the row of the table `counters` until the end of the transaction. Returns the last assigned numbers and the
/// version of the schema.
fn lock_counters(tx: &mut dyn Tx) -> Result<(LastAssigned, i64)> {
    first(tx, LOCK_COUNTERS, &[], read_counters)?.ok_or_else(no_counters)
}

fn read_counters(row: &mut Columns) -> Result<(LastAssigned, i64)> {
    let last_assigned = LastAssigned { position: row.take()?, key: row.take()?, claim_version: row.take()? };
    Ok((last_assigned, row.take()?))
}

fn no_counters() -> Error {
    Error::internal("table `counters` has no row: report the bug")
}

impl WriteSession for PostgresSession<'_> {
    fn begin<'r>(&mut self, ahead: impl Iterator<Item = &'r ReadAhead>) -> Result<LastAssigned> {
        self.try_begin(ahead)
    }

    fn run(&mut self, last_assigned: LastAssigned, body: impl FnOnce(&mut dyn Tx) -> bool) -> BodyEffects {
        let PostgresWriter { clock, ids, .. } = self.database;
        let Some(connection) = self.connection.as_mut() else {
            return BodyEffects { is_done: false, last_assigned, has_written: true, signals: Vec::new() };
        };
        let tx = PostgresTx::new(connection, clock.as_ref(), ids, Some(last_assigned));
        self.transaction.run(tx, body)
    }

    fn set_savepoint(&mut self) -> Result<()> {
        self.transaction.set_savepoint();
        self.require_connection()?.send_sql("SAVEPOINT body");
        Ok(())
    }

    fn end_savepoint(&mut self, keeps_changes: bool) -> Result<()> {
        let connection = self.require_connection()?;
        if keeps_changes {
            connection.send_sql("RELEASE body");
            return connection.settle();
        }
        // Ignore the failure, because the statements of the body are rolled back.
        let _ = connection.settle();
        connection.forget_failure();
        connection.send_sql("ROLLBACK TO body");
        connection.send_sql("RELEASE body");
        self.transaction.roll_back_to_savepoint();
        self.require_connection()?.settle()
    }

    fn transaction(&self) -> Transaction {
        self.transaction.transaction()
    }

    fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.is_closed())
    }

    fn can_commit(&self) -> bool {
        self.is_connected() && self.connection.as_ref().is_some_and(|connection| connection.failure().is_none())
    }

    fn commit(&mut self, last_assigned: LastAssigned, has_written: bool, signals: &[Signal]) -> CommitOutcome {
        self.is_open = false;
        let sent = self.send_commit(last_assigned, has_written, signals);
        let has_warning = self.connection.as_ref().is_some_and(Connection::take_warning);
        let outcome = match sent {
            Ok(()) if !has_warning => CommitOutcome::Committed,
            // The database has refused a statement, and has rolled back the transaction instead of the commit.
            Err(error) if error != Error::StoreBusy => CommitOutcome::Failed(error),
            _ if has_written => self.resolve(),
            _ => CommitOutcome::Disconnected,
        };
        if matches!(outcome, CommitOutcome::Committed) {
            self.database.clock.adopt(self.transaction.take_clock_step());
        }
        outcome
    }

    fn rollback(&mut self) {
        self.transaction.roll_back();
        let was_open = std::mem::take(&mut self.is_open);
        let Some(connection) = self.connection.as_mut() else { return };
        // Ignore the failure, because the statements are rolled back.
        let _ = connection.settle();
        connection.forget_failure();
        if was_open {
            connection.send_sql("ROLLBACK");
        }
        if connection.settle().is_err() {
            self.connection = None;
        }
    }

    fn is_checkpoint_due(&mut self) -> bool {
        false
    }

    fn checkpoint(&mut self) -> Result<()> {
        Ok(())
    }

    fn maintain(&mut self) -> Result<bool> {
        let server_id = self.database.server_id.clone();
        self.connect()?.forget_failure();
        self.with_tx(None, |tx| servers::record_alive(tx, &server_id))?;
        self.require_connection()?.settle()?;
        Ok(false)
    }
}
