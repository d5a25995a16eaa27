//! This module handles reading calls. A handler parses the request, runs one action in one read transaction, and
//! answers.

use prost::Message;
use runhub_api::Paged;
use tonic::{Request, Response};

use super::page::{PageRequest, PageStart};
use super::{Hub, Reply};
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
