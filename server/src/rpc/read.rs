//! This module handles reading calls. A handler parses the request, runs one action in one read transaction, and
//! answers.

use std::sync::Arc;

use prost::Message;
use runhub_api::Paged;
use tonic::{Request, Response};

use super::page::{PageRequest, PageStart};
use super::{Hub, Reply};
use crate::actions::Outcome;
use crate::error::Result;
use crate::store::{Page, Tx};

impl Hub {
    /// Handles a reading call and returns the response. `parse` checks the request, `act` reads the store, and `reply`
    /// creates the response. Fails if `parse` or `act` fails.
    pub async fn read<R, A, T, P>(
        &self,
        request: Request<R>,
        parse: impl FnOnce(&R) -> Result<A> + Send,
        act: impl Fn(&mut dyn Tx, &A) -> Result<T> + Send + 'static,
        reply: impl FnOnce(T) -> P + Send,
    ) -> Reply<P>
    where
        R: Send,
        A: Send + 'static,
        T: Send + 'static,
    {
        let args = parse(&request.into_inner())?;
        let found = self.store.read(move |tx| act(tx, &args)).await?;
        Ok(Response::new(reply(found)))
    }

    /// Runs a transaction body that reads, and returns the value of the body. If the transaction is postponed, the
    /// function does the named work and runs the transaction again. Only the first try of a call that is not exempt can
    /// be refused. Fails if the body fails.
    pub async fn read_until_done<T: Send + 'static>(
        &self,
        mut is_exempt: bool,
        body: impl Fn(&mut dyn Tx) -> Result<Outcome<T>> + Send + Sync + 'static,
    ) -> Result<T> {
        let body = Arc::new(body);
        loop {
            let body = Arc::clone(&body);
            let run = move |tx: &mut dyn Tx| body(tx);
            let outcome = if is_exempt { self.store.read_exempt(run).await? } else { self.store.read(run).await? };
            match outcome {
                Outcome::Done(value) => return Ok(value),
                Outcome::Rejected(error) => return Err(error),
                Outcome::Postponed(work) => self.prepare(work).await?,
            }
            is_exempt = true;
        }
    }

    /// Handles a call that lists rows, and returns the response with one page. `key` returns the key of a row. The next
    /// page continues after the key of the last row on this page. Fails if `parse` or `act` fails, or if the page token
    /// is invalid.
    pub async fn read_page<R, A, T, P, M>(
        &self,
        request: Request<R>,
        parse: impl FnOnce(&R) -> Result<A> + Send,
        act: impl Fn(&mut dyn Tx, &A, PageStart) -> Result<Page<T>> + Send + 'static,
        key: impl Fn(&T) -> i64 + Send,
        reply: impl FnOnce(Vec<P>, String) -> M + Send,
    ) -> Reply<M>
    where
        R: Paged,
        A: Send + 'static,
        T: Into<P> + Send + 'static,
        P: Message,
    {
        let mut request = request.into_inner();
        let args = parse(&request)?;
        let page = PageRequest::take(&mut request)?;
        let start = page.start;
        let found = self.store.read(move |tx| act(tx, &args, start)).await?;
        let (items, next_page_token) = page.answer(found, key);
        Ok(Response::new(reply(items, next_page_token)))
    }
}
