//! What every mutating RPC goes through: one transaction, and the same answer to the same request_id (C5).

use prost::Message;
use runhub_api::v1::Admission;
use runhub_api::{Mutation, Request};
use sha2::{Digest, Sha256};
use tonic::{Response, Status};
use tonic_types::pb;

use super::Hub;
use crate::actions::Outcome;
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::requests::{self, StoredAnswer};
use crate::store::{JobOptions, Lane, Signal, Tx};

/// What makes two calls the same.
#[derive(Clone)]
pub struct CallId {
    rpc: &'static str,
    /// The request_id and the fingerprint of the content; None: the call is not remembered.
    repeatable: Option<(String, Vec<u8>)>,
    options: JobOptions,
}

impl CallId {
    /// Its RPC and its request_id, if it has one.
    pub fn identity(&self) -> Option<(&'static str, String)> {
        self.repeatable.as_ref().map(|(id, _)| (self.rpc, id.clone()))
    }

    /// The same once it has waited: it is not refused any more.
    pub fn let_in(mut self) -> Self {
        self.options.is_exempt = true;
        self
    }

    /// Of a request, before its fields are parsed.
    pub fn of<R: Mutation>(request: &R) -> Result<Self> {
        let id = request.request_id();
        let options = job_options(request);
        if id.is_empty() {
            return Ok(Self { rpc: R::RPC.name, repeatable: None, options });
        }
        let printable = !id.trim().is_empty() && !id.chars().any(char::is_control);
        if !printable || id.len() > limits::ID_BYTES {
            let problem = format!("is not 1 to {} printable characters", limits::ID_BYTES);
            return Err(Error::field("request_id", problem));
        }
        let fingerprint = Sha256::digest(request.content().encode_to_vec()).to_vec();
        Ok(Self { rpc: R::RPC.name, repeatable: Some((id.to_owned(), fingerprint)), options })
    }
}

/// Returns how a call waits in the writer's queue.
pub fn job_options<R: Request>(request: &R) -> JobOptions {
    let lane = match R::RPC.admission {
        Admission::First => Lane::First,
        Admission::Open | Admission::Limited | Admission::Unspecified => Lane::Normal,
    };
    JobOptions { lane, is_exempt: false, bytes: request.encoded_len() }
}

/// What a call is answered with.
enum Answer<T> {
    Done(T),
    Refused(Status),
    /// As it was answered before.
    Again(T),
}

/// Marks a response that was given before to the same request_id: nothing was done for it now.
#[derive(Clone)]
pub struct Again;

impl Hub {
    /// Runs a mutating call.
    pub async fn mutate<T, F>(&self, call: CallId, body: F) -> Result<Response<T>, Status>
    where
        T: Message + Default + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.mutate_or_refuse(call, |_, _| Ok(None), move |tx| body(tx).map(Outcome::Done)).await
    }

    /// Runs a mutating call that may be refused with something written. `spoiled` looks at an answer about to be
    /// given again, and says why it can't be any more.
    pub async fn mutate_or_refuse<T, S, F>(&self, call: CallId, spoiled: S, body: F) -> Result<Response<T>, Status>
    where
        T: Message + Default + 'static,
        S: Fn(&mut dyn Tx, &T) -> Result<Option<Error>> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<Outcome<T>> + Send + 'static,
    {
        let answer = self.store.transact_with(call.options, move |tx| {
            if let Some(before) = answer_before(tx, &call, &spoiled)? {
                return Ok(before);
            }
            let answer = match body(tx)? {
                Outcome::Done(response) => Answer::Done(response),
                Outcome::Refused(error) => Answer::Refused(Status::from(error)),
            };
            remember(tx, &call, &answer)?;
            Ok(answer)
        });
        match answer.await? {
            Answer::Done(response) => Ok(Response::new(response)),
            Answer::Refused(status) => Err(status),
            Answer::Again(response) => {
                let mut response = Response::new(response);
                response.extensions_mut().insert(Again);
                Ok(response)
            }
        }
    }
}

fn answer_before<T: Message + Default>(
    tx: &mut dyn Tx,
    call: &CallId,
    spoiled: &impl Fn(&mut dyn Tx, &T) -> Result<Option<Error>>,
) -> Result<Option<Answer<T>>> {
    let Some((request_id, fingerprint)) = &call.repeatable else { return Ok(None) };
    let Some(stored) = requests::find(tx, call.rpc, request_id)? else { return Ok(None) };
    if stored.fingerprint != *fingerprint {
        return Err(Error::RequestIdReused);
    }
    let bytes = stored.answer.as_slice();
    if stored.refused {
        let status = pb::Status::decode(bytes).map_err(Error::internal)?;
        let details = status.encode_to_vec().into();
        return Ok(Some(Answer::Refused(Status::with_details(status.code.into(), status.message, details))));
    }
    let response = T::decode(bytes).map_err(Error::internal)?;
    match spoiled(tx, &response)? {
        Some(error) => Err(error),
        None => Ok(Some(Answer::Again(response))),
    }
}

/// What changed nothing is not remembered: asked again, it is tried afresh.
fn remember<T: Message>(tx: &mut dyn Tx, call: &CallId, answer: &Answer<T>) -> Result<()> {
    let Some((request_id, fingerprint)) = &call.repeatable else { return Ok(()) };
    if !tx.has_written() {
        return Ok(());
    }
    let stored = StoredAnswer {
        fingerprint: fingerprint.clone(),
        refused: matches!(answer, Answer::Refused(_)),
        answer: match answer {
            Answer::Done(response) | Answer::Again(response) => response.encode_to_vec(),
            // The details are an encoded google.rpc.Status, which has the code and the message too.
            Answer::Refused(status) => status.details().to_vec(),
        },
    };
    tx.signal(Signal::Answered { rpc: call.rpc, request_id: request_id.clone() });
    requests::insert(tx, call.rpc, request_id, &stored)
}
