//! Calls that wait for the writer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::store::Tx;

/// A queued call, whatever its body returns.
pub(super) trait Job: Send {
    /// Returns whether the caller still waits for the answer.
    fn is_wanted(&self) -> bool;
    /// Runs the body and keeps its result. Returns whether the body has succeeded.
    fn run(&mut self, tx: &mut dyn Tx) -> bool;
    /// Returns whether the body has run and succeeded.
    fn has_succeeded(&self) -> bool;
    /// Replaces the result of the body by an error.
    fn fail(&mut self, error: Error);
    /// Sends the result to the caller.
    fn answer(self: Box<Self>);
}

/// A body and the channel for its result.
pub(super) struct Call<T, F> {
    body: F,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Call<T, F> {
    pub fn new(body: F, reply: oneshot::Sender<Result<T>>) -> Self {
        Self { body, result: None, reply }
    }
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: Fn(&mut dyn Tx) -> Result<T> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(&mut self, tx: &mut dyn Tx) -> bool {
        // A panic is the bug of one call. It must not end the writer; the changes of this body are rolled back.
        let result = catch_unwind(AssertUnwindSafe(|| (self.body)(tx)));
        let result = result.unwrap_or_else(|_| Err(Error::internal("the body of a transaction panicked")));
        self.result.insert(result).is_ok()
    }

    fn has_succeeded(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
    }

    fn fail(&mut self, error: Error) {
        self.result = Some(Err(error));
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // If the caller has disconnected after the commit, the commit stands.
            let _ = self.reply.send(result);
        }
    }
}
