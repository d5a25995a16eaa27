//! This module defines the calls that wait for the writer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::{JobOptions, ReadAhead, Tx};

/// Represents a queued call with any type of result.
pub(super) trait Job: Send {
    /// Returns whether the caller still waits for the response.
    fn has_waiting_caller(&self) -> bool;
    /// Returns the rows that the transaction body needs.
    fn ahead(&self) -> &ReadAhead;
    /// Runs the transaction body and stores the result of the body. Returns whether the body succeeded.
    fn run(&mut self, tx: &mut dyn Tx) -> bool;
    /// Returns whether the transaction body has run and succeeded.
    fn has_succeeded(&self) -> bool;
    /// Returns the error of the transaction body if the whole store has failed, and not only this call: `StoreFull`,
    /// `StoreFailed` or `StoreDamaged`.
    fn store_error(&self) -> Option<Error>;
    /// Returns the start of the time without writes after which the transaction body extends the leases, or None if the
    /// body extends no leases.
    fn recovers_since(&self) -> Option<Timestamp>;
    /// Replaces the result of the transaction body with an error.
    fn fail(&mut self, error: Error);
    /// Sends the result to the caller.
    fn answer(self: Box<Self>);
}

/// Holds a transaction body and the channel that sends the body's result to the caller.
pub(super) struct Call<T, F> {
    body: F,
    options: JobOptions,
    ahead: ReadAhead,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Call<T, F> {
    pub fn new(body: F, options: JobOptions, ahead: ReadAhead, reply: oneshot::Sender<Result<T>>) -> Self {
        Self { body, options, ahead, result: None, reply }
    }
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: Fn(&mut dyn Tx) -> Result<T> + Send,
{
    fn has_waiting_caller(&self) -> bool {
        !self.reply.is_closed()
    }

    fn ahead(&self) -> &ReadAhead {
        &self.ahead
    }

    fn run(&mut self, tx: &mut dyn Tx) -> bool {
        // Catch a panic, because a bug in one transaction body must not end the writer thread. The writer rolls back
        // the changes of the panicking body.
        let result = catch_unwind(AssertUnwindSafe(|| (self.body)(tx)));
        let result = result.unwrap_or_else(|_| {
            Err(Error::internal(
                "the transaction's code panicked, so the server rolled back the call's changes: report the bug",
            ))
        });
        self.result.insert(result).is_ok()
    }

    fn has_succeeded(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
    }

    fn store_error(&self) -> Option<Error> {
        let error = self.result.as_ref()?.as_ref().err()?;
        (*error == Error::StoreFull || error.is_store_failure()).then(|| error.clone())
    }

    fn recovers_since(&self) -> Option<Timestamp> {
        self.options.recovers_since
    }

    fn fail(&mut self, error: Error) {
        self.result = Some(Err(error));
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // Ignore a failed send, because the commit remains valid even if the caller has disconnected.
            let _ = self.reply.send(result);
        }
    }
}
