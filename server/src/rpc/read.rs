//! Reading calls: parse, run one action on one consistent state, answer.

use prost::Message;
use runhub_api::Paged;
use tonic::{Request, Response};

use super::page::{PageRequest, PageStart};
use super::{Hub, Reply};
use crate::error::Result;
use crate::store::{Page, Tx};

impl Hub {
    /// Handles a reading call: `parse` checks the request, `act` reads, and `reply` makes the response.
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

    /// Handles a call that returns one page of a list. `key` returns the key of a row, at which the next page continues.
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
