//! This module defines a client method for each RPC, and makes the calls with retries and a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

use prost::Message;
use runhub_api::{MAX_RESPONSE_BYTES, Request, v1};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::{Client, Error, repeat_for};

/// Longest time for which the server holds a call. The server shortens a longer `wait` to this limit.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl Client {
    /// Makes a call and returns the response. If the client has a deadline, the function retries the call while the
    /// error is temporary and the deadline has not passed. Fails with the last error of the call, or with
    /// DEADLINE_EXCEEDED if the server has not answered before the deadline.
    async fn make_call<Q, A, F>(&self, mut request: Q, send: impl Fn(Channel, Q) -> F) -> Result<A, Error>
    where
        Q: Request,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let once = async |mut request| {
            let is_held = !requested_wait(&mut request).is_zero();
            let connection = if is_held { self.connections.for_held_call() } else { self.connections.for_call() };
            Ok(send(connection.channel.clone(), request).await?.into_inner())
        };
        let Some(deadline) = self.deadline else {
            return once(request).await;
        };
        ensure_request_id(&mut request);
        let began = Instant::now();
        let wait = requested_wait(&mut request);
        let mut is_first_call = true;
        let send_request = || {
            if !is_first_call && !wait.is_zero() {
                reduce_wait(&mut request, wait.saturating_sub(began.elapsed()));
            }
            is_first_call = false;
            once(request.clone())
        };
        repeat_for(deadline + wait, send_request).await
    }
}

/// Returns the time for which the server may hold the call: the request's `wait`, limited to `LONGEST_WAIT`. Returns
/// zero if the request has no valid `wait`.
fn requested_wait(request: &mut impl Request) -> Duration {
    let wait = request.wait_mut().and_then(|wait| Duration::try_from(*wait).ok());
    wait.unwrap_or_default().min(LONGEST_WAIT)
}

/// Reduces the `wait` of a retry to the remaining time, so that the server answers before the deadline. The server does
/// not compare the `wait` of duplicate requests, so the server still detects the retry as a duplicate.
fn reduce_wait(request: &mut impl Request, rest: Duration) {
    if let (Some(wait), Ok(rest)) = (request.wait_mut(), rest.try_into()) {
        *wait = rest;
    }
}

/// Generates a client method for each unary RPC of the API.
macro_rules! calls {
    ($($module:ident::$stub:ident { $($call:ident($request:ident) -> $response:ident,)+ })+) => {
        impl Client {
            $($(
                #[doc = concat!("Calls `", stringify!($call), "`: [`v1::", stringify!($module), "::", stringify!($stub), "::", stringify!($call), "`] documents what the RPC does and which errors it returns.")]
                ///
                /// # Errors
                /// Fails with [`Error::Refused`] if the server refuses the call. Fails with [`Error::Lost`] if the call
                /// does not reach the server's handler, or if the response is dropped.
                pub async fn $call(&self, request: v1::$request) -> Result<v1::$response, Error> {
                    self.make_call(request, |channel, request| async move {
                        let stub = v1::$module::$stub::new(channel);
                        stub.max_decoding_message_size(MAX_RESPONSE_BYTES).$call(request).await
                    }).await
                }
            )+)+

            /// Calls an RPC by its name, such as `ClaimTask`, with an encoded request. Returns the encoded response.
            /// Use this method in a program that learns the name of the RPC at run time.
            ///
            /// # Errors
            /// Fails with the errors of the RPC. Also fails with UNIMPLEMENTED if no unary RPC has this name, and with
            /// INVALID_ARGUMENT if the request can't be decoded.
            pub async fn call_encoded(&self, rpc: &str, request: &[u8]) -> Result<Vec<u8>, Error> {
                $($(
                    if <v1::$request as Request>::RPC.name == rpc {
                        let request = v1::$request::decode(request)
                            .map_err(|error| Error::Lost { code: Code::InvalidArgument, message: error.to_string() })?;
                        return Ok(self.$call(request).await?.encode_to_vec());
                    }
                )+)+
                Err(Error::Lost { code: Code::Unimplemented, message: format!("there is no unary RPC {rpc}") })
            }
        }
    };
}

runhub_api::for_each_unary_rpc!(calls);

/// Sets a new request_id. If the RPC has no request_id or the caller has set a request_id, the function does nothing.
// `Uuid::now_v7` reads the system clock, because the client has no injected clock. The id only needs to be unique.
#[allow(clippy::disallowed_methods)]
fn ensure_request_id(request: &mut impl Request) {
    if let Some(request_id) = request.request_id_mut()
        && request_id.is_empty()
    {
        *request_id = Uuid::now_v7().to_string();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use v1::{ClaimTaskRequest, HeartbeatRequest, ListRunsRequest};

    use super::*;

    /// Makes a call whose second retry succeeds, and returns the request of the first call and of each retry.
    async fn record_requests<Q: Request>(client: Client, request: Q) -> Vec<Q> {
        let sent = RefCell::new(Vec::new());
        let answer = client.make_call(request, |_, request| {
            sent.borrow_mut().push(request);
            let is_third = sent.borrow().len() == 3;
            async move { is_third.then(|| Response::new(())).ok_or_else(|| Status::unavailable("down")) }
        });
        // The result is ignored, because a client without retry returns the error of the first call.
        let _ = answer.await;
        sent.into_inner()
    }

    fn client() -> Client {
        Client::connect_lazy("127.0.0.1:1").unwrap()
    }

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[tokio::test]
    async fn all_retries_of_a_mutating_call_have_the_same_request_id() {
        let sent = record_requests(client(), ClaimTaskRequest::default()).await;
        assert_eq!(sent.len(), 3);
        assert_eq!(Uuid::parse_str(&sent[0].request_id).unwrap().get_version_num(), 7);
        assert!(sent.iter().all(|request| *request == sent[0]));
        let sent_later = record_requests(client(), ClaimTaskRequest::default()).await;
        assert_ne!(sent_later[0].request_id, sent[0].request_id);
    }

    #[tokio::test]
    async fn request_id_of_the_caller_is_kept_and_requests_without_the_field_are_retried() {
        let with_id = ClaimTaskRequest { request_id: "mine".into(), ..ClaimTaskRequest::default() };
        assert_eq!(record_requests(client(), with_id.clone()).await, vec![with_id; 3]);
        assert_eq!(record_requests(client(), HeartbeatRequest::default()).await.len(), 3);
        assert_eq!(record_requests(client(), ListRunsRequest::default()).await.len(), 3);
    }

    #[tokio::test]
    async fn client_without_retry_makes_a_call_once_and_unchanged() {
        let sent = record_requests(client().without_retry(), ClaimTaskRequest::default()).await;
        assert_eq!(sent, [ClaimTaskRequest::default()]);
    }

    #[tokio::test]
    async fn wait_is_added_to_the_deadline() {
        let client = client().with_deadline(Duration::ZERO);
        let answer_late = |channel: Channel, _| async move {
            drop(channel);
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(Response::new(()))
        };
        let lost = client.make_call(ClaimTaskRequest::default(), answer_late).await.unwrap_err();
        assert_eq!(lost.code(), Code::DeadlineExceeded);
        let request = ClaimTaskRequest { wait: seconds(60), ..ClaimTaskRequest::default() };
        client.make_call(request, answer_late).await.unwrap();
    }

    #[tokio::test]
    async fn retry_requests_the_remaining_wait() {
        let sent =
            record_requests(client(), ClaimTaskRequest { wait: seconds(60), ..ClaimTaskRequest::default() }).await;
        let waits: Vec<Duration> = sent.iter().map(|request| request.wait.unwrap().try_into().unwrap()).collect();
        assert_eq!(waits[0], Duration::from_secs(60));
        assert!(waits[2] < waits[1] && waits[1] < waits[0] && waits[2] > Duration::from_secs(50), "{waits:?}");
        assert_eq!(sent[2].request_id, sent[0].request_id);
    }

    #[tokio::test]
    async fn invalid_wait_is_sent_unchanged() {
        let request = ClaimTaskRequest { wait: seconds(-1), ..ClaimTaskRequest::default() };
        assert!(record_requests(client(), request).await.iter().all(|request| request.wait == seconds(-1)));
    }

    #[tokio::test]
    async fn permanent_error_is_not_retried() {
        let client = client();
        let calls = RefCell::new(0);
        let refused = client.make_call(ListRunsRequest::default(), |_, _| {
            *calls.borrow_mut() += 1;
            async { Err::<Response<()>, _>(Status::resource_exhausted("larger than 16 MiB")) }
        });
        assert_eq!(refused.await.unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(calls.into_inner(), 1);
    }

    #[tokio::test]
    async fn encoded_call_with_unknown_rpc_or_malformed_request_is_an_error() {
        let client = client();
        assert_eq!(client.call_encoded("Nothing", &[]).await.unwrap_err().code(), Code::Unimplemented);
        assert_eq!(client.call_encoded("GetRun", &[7]).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
