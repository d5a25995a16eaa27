//! This module runs statements on one connection to PostgreSQL.
//!
//! The thread that uses the connection also drives it, so no other thread is woken for a statement. A statement whose
//! result nobody needs is sent without a wait for its result. `settle` waits for the results of these statements.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{poll_fn, try_join_all};
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Row, Statement};

use super::address::PostgresAddress;
use super::batch::{Batch, PendingRows, can_wait, statement_for_many};
use super::errors::store_error;
use super::sent::{SentStatement, SentStatements};
use super::values::OwnedValue;
use crate::error::{Error, Result};
use crate::store::body_tx::{RunStatements, is_read};
use crate::store::{Columns, RowHandler, SqlValue};

/// Maximum time to wait for the result of a statement. The largest change of the API takes a few seconds.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the database.
pub(super) struct Connection {
    /// Drives the connection. The value is None only while the connection is dropped.
    runtime: Option<Runtime>,
    client: Arc<Client>,
    /// The prepared statements, by the address and the length of their text.
    statements: HashMap<(usize, usize), Statement>,
    /// The statements that change many rows, by the text of the statement that changes one row. The value is None if no
    /// statement can change many rows.
    statements_for_many: HashMap<(usize, usize), Option<Statement>>,
    /// The rows that were not sent yet.
    pending: PendingRows,
    sent: SentStatements,
    /// The first failure of a statement in the open transaction. PostgreSQL then refuses all further statements of the
    /// transaction.
    failure: Option<Error>,
    /// Whether the database has sent a warning.
    has_warning: Arc<AtomicBool>,
}

impl Connection {
    /// Connects to the database. Fails if no server of the address can write.
    pub fn open(address: &PostgresAddress) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|cause| cause.to_string())?;
        let has_warning = Arc::<AtomicBool>::default();
        let connected = runtime.block_on(address.connect());
        let (client, mut connection) = connected.map_err(|error| error.to_string())?;
        let warned = Arc::clone(&has_warning);
        runtime.spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    warned.fetch_or(notice.severity() == "WARNING", Ordering::Relaxed);
                }
            }
        });
        Ok(Self {
            runtime: Some(runtime),
            client: Arc::new(client),
            statements: HashMap::new(),
            statements_for_many: HashMap::new(),
            pending: PendingRows::default(),
            sent: SentStatements::new(),
            failure: None,
            has_warning,
        })
    }

    /// Returns whether the connection is lost.
    pub fn is_closed(&self) -> bool {
        self.runtime.is_none() || self.client.is_closed()
    }

    /// Returns whether the database has sent a warning since the last call.
    pub fn take_warning(&self) -> bool {
        self.has_warning.swap(false, Ordering::Relaxed)
    }

    /// Returns the first failure of a statement in the open transaction.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Waits for a future. After `STATEMENT_TIMEOUT`, treats the connection as lost.
    fn wait_for<T>(&mut self, result: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        self.wait_at_most(STATEMENT_TIMEOUT, result)
    }

    fn wait_at_most<T>(
        &mut self,
        timeout: Duration,
        result: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let runtime = self.runtime.as_ref().ok_or_else(|| Error::internal("the connection is being dropped"))?;
        // The timer needs the context of the runtime.
        let limited = async { tokio::time::timeout(timeout, result).await };
        match runtime.block_on(limited) {
            Ok(result) => result.map_err(|error| store_error(&error)),
            Err(_) => {
                self.drop_runtime();
                Err(Error::StoreBusy)
            }
        }
    }

    /// Closes the connection without a wait, also inside another runtime.
    fn drop_runtime(&mut self) {
        self.sent.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Records the failure of a statement, and returns the cause. If a statement that was sent before has failed, that
    /// failure is the cause.
    fn fail<T>(&mut self, error: Error) -> Result<T> {
        let cause = self.settle().err().unwrap_or(error);
        Err(self.failure.get_or_insert(cause).clone())
    }

    /// Returns the prepared statement with the text `sql`.
    pub fn prepare(&mut self, sql: &'static str) -> Result<Statement> {
        let key = key_of(sql);
        if let Some(statement) = self.statements.get(&key) {
            return Ok(statement.clone());
        }
        let client = Arc::clone(&self.client);
        match self.wait_for(async move { client.prepare(sql).await }) {
            Ok(statement) => {
                self.statements.insert(key, statement.clone());
                Ok(statement)
            }
            Err(Error::Internal(cause)) => self.fail(Error::Internal(format!("{cause} in the statement {sql}"))),
            Err(error) => self.fail(error),
        }
    }

    /// Returns the statement that changes many rows instead of the one row that `statement` changes, or None if there is
    /// no such statement.
    fn prepare_for_many(&mut self, sql: &'static str, statement: &Statement) -> Option<Statement> {
        let key = key_of(sql);
        if let Some(known) = self.statements_for_many.get(&key) {
            return known.clone();
        }
        let client = Arc::clone(&self.client);
        let prepared = statement_for_many(sql, statement.params())
            .and_then(|many| self.wait_for(async move { client.prepare(&many).await }).ok());
        self.statements_for_many.insert(key, prepared.clone());
        prepared
    }

    /// Adds a row to the pending rows of an INSERT or UPDATE statement. If pending rows must be sent before the row, sends
    /// them first.
    fn add_row(&mut self, sql: &'static str, row: Vec<OwnedValue>) -> Result<()> {
        if let Some(batch) = self.pending.find_batch(sql, &row) {
            batch.push(row);
            return Ok(());
        }
        self.send_batches_before(sql);
        self.prepare(sql)?;
        self.pending.add(sql).push(row);
        Ok(())
    }

    /// Sends the pending rows without a wait for the results.
    fn send_pending(&mut self) {
        let batches = self.pending.take();
        self.send_batches(batches);
    }

    /// Sends the pending rows that must be sent before a statement.
    fn send_batches_before(&mut self, sql: &'static str) {
        let batches = self.pending.take_before(sql);
        self.send_batches(batches);
    }

    fn send_batches(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            if let Err(error) = self.send_batch(batch) {
                self.failure.get_or_insert(error);
            }
        }
    }

    fn send_batch(&mut self, batch: Batch) -> Result<()> {
        let statement = self.prepare(batch.sql)?;
        let many = if batch.len() > 1 { self.prepare_for_many(batch.sql, &statement) } else { None };
        let client = Arc::clone(&self.client);
        match many {
            Some(many) => {
                let columns = batch.into_columns(statement.params());
                self.send(async move { client.execute_raw(&many, columns).await.map(drop) });
            }
            None => batch.into_rows().into_iter().for_each(|row| self.send_statement(statement.clone(), row)),
        }
        Ok(())
    }

    /// Sends statements without parameters and without a wait for their results.
    pub fn send_sql(&mut self, sql: &'static str) {
        self.send_pending();
        let client = Arc::clone(&self.client);
        self.send(async move { client.batch_execute(sql).await });
    }

    /// Sends a statement without a wait for its result.
    fn send_statement(&mut self, statement: Statement, params: Vec<OwnedValue>) {
        let client = Arc::clone(&self.client);
        self.send(async move { client.execute_raw(&statement, params).await.map(drop) });
    }

    /// Polls a future once, which sends its statement, and keeps the future for `settle`.
    fn send(&mut self, statement: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static) {
        let mut statement: SentStatement = Box::pin(statement);
        match statement.as_mut().now_or_never() {
            None => {
                if self.sent.add(statement) {
                    // `failure` keeps the error.
                    let _ = self.receive_results(STATEMENT_TIMEOUT);
                }
            }
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.failure.get_or_insert(store_error(&error));
            }
        }
    }

    /// Waits for the results of all statements that were sent. Fails with the first failure in the open transaction.
    pub fn settle(&mut self) -> Result<()> {
        self.settle_within(STATEMENT_TIMEOUT)
    }

    /// Waits as `settle` does, but at most for `timeout`. After the timeout, the connection is lost.
    pub fn settle_within(&mut self, timeout: Duration) -> Result<()> {
        self.send_pending();
        self.receive_results(timeout)
    }

    fn receive_results(&mut self, timeout: Duration) -> Result<()> {
        if let Some(results) = self.sent.take()
            && let Err(error) = self.wait_at_most(timeout, results)
        {
            self.failure.get_or_insert(error);
        }
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Forgets the failure of a transaction, or of a part of a transaction, that is rolled back.
    pub fn forget_failure(&mut self) {
        self.failure = None;
    }

    /// Runs queries in their order, and waits once for the results of all. The parameter of a query is a list of texts. A
    /// query without texts has no parameter. The first query always runs, and each other query only if it has texts.
    pub fn query_together<const N: usize>(
        &mut self,
        queries: [(&'static str, BTreeSet<&str>); N],
    ) -> Result<[Vec<Row>; N]> {
        self.send_pending();
        let mut prepared = Vec::with_capacity(N);
        for (at, (sql, texts)) in queries.into_iter().enumerate() {
            let runs = at == 0 || !texts.is_empty();
            let statement = if runs { Some(self.prepare(sql)?) } else { None };
            prepared.push((statement, texts.into_iter().collect::<Vec<&str>>()));
        }
        let client = Arc::clone(&self.client);
        // `try_join_all` sends all queries before the first result arrives.
        let results = prepared.iter().map(|(statement, texts)| query_texts(&client, statement.as_ref(), texts));
        match self.wait_for(try_join_all(results)) {
            Ok(rows) => rows.try_into().map_err(|_| Error::internal("each query has one result: report the bug")),
            Err(error) => self.fail(error),
        }
    }

    /// Runs a text with several statements, which can be made at run time because it contains no values.
    pub fn run_script(&mut self, script: &str) -> Result<()> {
        self.send_pending();
        let client = Arc::clone(&self.client);
        match self.wait_for(async { client.batch_execute(script).await }) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(error),
        }
    }
}

/// Runs a query. Without a statement, returns no row.
async fn query_texts(
    client: &Client,
    statement: Option<&Statement>,
    texts: &[&str],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let Some(statement) = statement else { return Ok(Vec::new()) };
    let parameter: [&(dyn ToSql + Sync); 1] = [&texts];
    let parameters: &[&(dyn ToSql + Sync)] = if texts.is_empty() { &[] } else { &parameter };
    client.query(statement, parameters).await
}

/// Returns the key of a statement. A text is never freed, so its address and length always mean the same text.
fn key_of(sql: &'static str) -> (usize, usize) {
    (sql.as_ptr() as usize, sql.len())
}

impl RunStatements for &mut Connection {
    fn execute(&mut self, sql: &'static str, params: &[SqlValue], has_written: &mut bool) -> Result<u64> {
        self.send_pending();
        let statement = self.prepare(sql)?;
        let client = Arc::clone(&self.client);
        match self.wait_for(async move { client.execute_raw(&statement, params).await }) {
            Ok(changed) => {
                *has_written |= changed > 0;
                Ok(changed)
            }
            Err(error) => self.fail(error),
        }
    }

    fn query(
        &mut self,
        sql: &'static str,
        params: &[SqlValue],
        has_written: &mut bool,
        handler: RowHandler,
    ) -> Result<()> {
        *has_written |= !is_read(sql);
        self.send_pending();
        let statement = self.prepare(sql)?;
        let client = Arc::clone(&self.client);
        let handled = self.wait_for(async move {
            let rows = client.query_raw(&statement, params).await?;
            let mut rows = std::pin::pin!(rows);
            while let Some(row) = rows.next().await {
                match handler(&mut Columns::new(&row?)) {
                    Ok(step) if step.is_break() => break,
                    Ok(_) => {}
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(()))
        });
        match handled {
            Ok(handled) => handled,
            Err(error) => self.fail(error),
        }
    }

    fn write(&mut self, sql: &'static str, params: &[SqlValue], has_written: &mut bool) -> Result<()> {
        *has_written = true;
        let params: Vec<OwnedValue> = params.iter().map(OwnedValue::from).collect();
        if can_wait(sql) {
            return self.add_row(sql, params);
        }
        self.send_batches_before(sql);
        let statement = self.prepare(sql)?;
        self.send_statement(statement, params);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.drop_runtime();
    }
}
