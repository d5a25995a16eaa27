//! This module handles mutating calls. A handler parses the request, runs one action in one transaction, and returns
//! the response. A duplicate request receives the stored response to the first call.

use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use runhub_api::v1::Admission;
use runhub_api::{Mutation, Request as ApiRequest};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};
use tonic_types::pb;

use super::stored_response::{self, StoredResponse};
use super::{Hub, Reply};
use crate::actions::paths::Undecided;
use crate::actions::{Outcome, Postponed};
use crate::domain::field;
use crate::error::{Error, Result};
use crate::store::requests::{self, StoredAnswer};
use crate::store::{JobOptions, Lane, ReadAhead, Signal, Tx};
use crate::wake::CallIdentity;

/// The identity of a mutating call, and the call's options for the writer's queue.
#[derive(Clone)]
pub struct Call {
    rpc: &'static str,
    /// The key under which the response is stored. If the call has no request_id, the value is None. In this case, the
    /// response is not stored.
    key: Option<RequestKey>,
    options: JobOptions,
    /// The rows that the request names.
    ahead: ReadAhead,
}

#[derive(Clone)]
struct RequestKey {
    request_id: String,
    /// The SHA-256 digest of the request's content.
    fingerprint: Vec<u8>,
}

impl Call {
    /// Returns the call that a request identifies. Fails if the request_id is invalid.
    pub fn new<R: Mutation>(request: &R) -> Result<Self> {
        let key = match request.request_id() {
            "" => None,
            id => Some(RequestKey {
                request_id: field::request_id(id)?,
                fingerprint: Sha256::digest(request.content().encode_to_vec()).to_vec(),
            }),
        };
        let named = |id: &str| Some(id).filter(|id| !id.is_empty()).map(Arc::from);
        let ahead =
            ReadAhead { run_id: named(request.run_id()), task_id: named(request.ended_task_id()), claims_task: false };
        Ok(Self { rpc: R::RPC.name, key, options: job_options(request), ahead })
    }

    /// Returns the RPC and the request_id, or None if the call has no request_id.
    pub fn identity(&self) -> Option<CallIdentity> {
        self.key.as_ref().map(|key| CallIdentity { rpc: self.rpc.into(), request_id: key.request_id.clone() })
    }

    /// Returns the call, whose transaction claims a task.
    pub fn claiming(mut self) -> Self {
        self.ahead.claims_task = true;
        self
    }

    /// Returns the call, exempt from the limits of the writer's queue. Use this function for a call that has already
    /// waited and must not be refused.
    pub fn exempt(mut self) -> Self {
        self.options.is_exempt = true;
        self
    }
}

/// Returns the options with which the writer queues the transaction of a request.
pub fn job_options<R: ApiRequest>(request: &R) -> JobOptions {
    let lane = match R::RPC.admission {
        Admission::First => Lane::First,
        Admission::Open | Admission::Limited | Admission::Unspecified => Lane::Normal,
    };
    JobOptions { lane, is_exempt: false, bytes: request.encoded_len(), ..JobOptions::default() }
}

/// The response to a mutating call: a message or a status.
pub struct Answer<T> {
    /// The response, or the status of a rejection whose event is committed.
    pub result: Result<T, Status>,
    /// Whether an earlier call with the same request_id produced this response. If true, this call changed nothing.
    pub is_duplicate: bool,
}

impl Hub {
    /// Handles a mutating call and returns the response. `parse` checks the request, `act` runs in a transaction, and
    /// `reply` creates the response. Fails if `parse` or `act` fails.
    pub async fn write<R, A, T, P>(
        &self,
        request: Request<R>,
        parse: impl FnOnce(&R) -> Result<A> + Send,
        act: impl Fn(&mut dyn Tx, &A) -> Result<T> + Send + 'static,
        reply: impl Fn(T) -> P + Send + 'static,
    ) -> Reply<P>
    where
        R: Mutation,
        A: Send + 'static,
        P: StoredResponse + 'static,
    {
        let act = move |tx: &mut dyn Tx, args: &A| act(tx, args).map(Outcome::Done);
        self.write_or_reject(request, parse, act, reply).await
    }

    /// Handles a mutating call whose action may also reject the call and commit an event about the rejection. Returns
    /// the response. Fails if the call is rejected, or if `parse` or `act` fails.
    pub async fn write_or_reject<R, A, T, P>(
        &self,
        request: Request<R>,
        parse: impl FnOnce(&R) -> Result<A> + Send,
        act: impl Fn(&mut dyn Tx, &A) -> Result<Outcome<T>> + Send + 'static,
        reply: impl Fn(T) -> P + Send + 'static,
    ) -> Reply<P>
    where
        R: Mutation,
        A: Send + 'static,
        P: StoredResponse + 'static,
    {
        let request = request.into_inner();
        let call = Call::new(&request)?;
        let args = parse(&request)?;
        // Drop the request before the call waits for the writer, because the request may need more memory than the
        // parsed arguments.
        drop(request);
        let body = move |tx: &mut dyn Tx| Ok(act(tx, &args)?.map(&reply));
        let answer = self.answer(call, |_, _| Ok(()), body).await?;
        Ok(Response::new(answer.result?))
    }

    /// Runs `body` in a transaction, and stores and returns the response. If an earlier call with the same request_id
    /// has a stored response, the function returns the stored response instead. Fails if `body` fails, if the earlier
    /// call had different content, or if `check_repeat` does not allow the stored response to be repeated. If the
    /// transaction is postponed, the function does the named work and runs the transaction again.
    pub async fn answer<P>(
        &self,
        call: Call,
        check_repeat: impl Fn(&mut dyn Tx, &P) -> Result<()> + Send + 'static,
        body: impl Fn(&mut dyn Tx) -> Result<Outcome<P>> + Send + 'static,
    ) -> Result<Answer<P>>
    where
        P: StoredResponse + 'static,
    {
        let options = call.options;
        let ahead = call.ahead.clone();
        let transaction = move |tx: &mut dyn Tx| {
            if let Some(result) = find_stored_answer(tx, &call, &check_repeat)? {
                return Ok(Outcome::Done(Answer { result, is_duplicate: true }));
            }
            let mut result = match body(tx)? {
                Outcome::Done(response) => Ok(response),
                Outcome::Rejected(error) => Err(Status::from(error)),
                Outcome::Postponed(work) => return Ok(Outcome::Postponed(work)),
            };
            store_answer(tx, &call, &mut result)?;
            Ok(Outcome::Done(Answer { result, is_duplicate: false }))
        };
        self.transact(options, ahead, transaction).await
    }

    /// Runs a transaction body that writes, and returns the value of the body. If the transaction is postponed, the
    /// function does the named work and runs the transaction again. Fails if the body fails.
    pub async fn transact<T: Send + 'static>(
        &self,
        mut options: JobOptions,
        ahead: ReadAhead,
        body: impl Fn(&mut dyn Tx) -> Result<Outcome<T>> + Send + 'static,
    ) -> Result<T> {
        let body = Arc::new(Mutex::new(body));
        loop {
            let body = Arc::clone(&body);
            let run = move |tx: &mut dyn Tx| body.lock().unwrap_or_else(PoisonError::into_inner)(tx);
            match self.store.transact_ahead(ahead.clone(), options, run).await? {
                Outcome::Done(value) => return Ok(value),
                Outcome::Rejected(error) => return Err(error),
                Outcome::Postponed(work) => self.prepare(work).await?,
            }
            // The queue must not refuse a call that it has admitted before.
            options.is_exempt = true;
        }
    }

    /// Does the work for which a transaction was postponed. Fails if the store can't be read.
    pub async fn prepare(&self, work: Postponed) -> Result<()> {
        match work {
            Postponed::Load => self.load_claim_index().await,
            Postponed::Undecided(undecided) => self.decide_overlaps(undecided).await,
            Postponed::Again => Ok(()),
        }
    }

    /// Loads the claim index, page by page. If another call has loaded the index, the function does nothing.
    async fn load_claim_index(&self) -> Result<()> {
        // The next call continues with the pages of a call whose caller has disconnected.
        let loading = self.loading.lock().await;
        let mut is_loaded = self.claim_index.is_loaded();
        while !is_loaded {
            let pages = Arc::clone(&loading);
            let index = Arc::clone(&self.claim_index);
            let read =
                move |tx: &mut dyn Tx| index.load_page(tx, &mut pages.lock().unwrap_or_else(PoisonError::into_inner));
            is_loaded = self.store.read_as_server(read).await?;
        }
        Ok(())
    }

    /// Compares path sets on the readers, in slices, so that other reads can use the readers in between.
    async fn decide_overlaps(&self, undecided: Undecided) -> Result<()> {
        let undecided = Arc::new(undecided);
        let mut decided = 0;
        while decided < undecided.sets.len() {
            let undecided = Arc::clone(&undecided);
            let overlaps = Arc::clone(&self.overlaps);
            decided = self.store.read_exempt(move |tx| overlaps.decide_slice(tx, &undecided, decided)).await?;
        }
        Ok(())
    }
}

/// Returns the stored response to an earlier call with the same request_id, or None if no response is stored. Fails if
/// the earlier call had different content, or if `check_repeat` does not allow the stored response to be repeated.
pub fn find_stored_answer<P: StoredResponse>(
    tx: &mut dyn Tx,
    call: &Call,
    check_repeat: &impl Fn(&mut dyn Tx, &P) -> Result<()>,
) -> Result<Option<Result<P, Status>>> {
    let Some(RequestKey { request_id, fingerprint }) = &call.key else { return Ok(None) };
    let Some(stored) = requests::find(tx, call.rpc, request_id)? else { return Ok(None) };
    if stored.fingerprint != *fingerprint {
        return Err(Error::RequestIdReused { rpc: call.rpc, request_id: request_id.clone() });
    }
    let bytes = stored.answer.as_slice();
    if stored.refused {
        return Ok(Some(Err(decode_status(bytes)?)));
    }
    let response = stored_response::decode(tx, bytes)?;
    check_repeat(tx, &response)?;
    Ok(Some(Ok(response)))
}

/// Stores a response for duplicate requests. If the call changed nothing, the response is not stored, so a repeated
/// call runs again.
fn store_answer<P: StoredResponse>(tx: &mut dyn Tx, call: &Call, result: &mut Result<P, Status>) -> Result<()> {
    let Some(RequestKey { request_id, fingerprint }) = &call.key else { return Ok(()) };
    if !tx.has_written() {
        return Ok(());
    }
    let (refused, answer) = match result {
        Ok(response) => (false, stored_response::encode(response)),
        // Store only the details, because the details are an encoded google.rpc.Status that also contains the code and
        // the message.
        Err(status) => (true, status.details().to_vec()),
    };
    tx.signal(Signal::Answered { rpc: call.rpc.into(), request_id: request_id.clone() });
    requests::insert(tx, call.rpc, request_id, &StoredAnswer { fingerprint: fingerprint.clone(), refused, answer })
}

fn decode_status(bytes: &[u8]) -> Result<Status> {
    let status = pb::Status::decode(bytes).map_err(Error::internal)?;
    let details = status.encode_to_vec().into();
    Ok(Status::with_details(status.code.into(), status.message, details))
}
