//! Every RPC as a method.

use std::future::Future;
use std::time::{Duration, Instant};

use prost::Message;
use runhub_api::{MAX_RESPONSE_BYTES, Request, v1};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::{Client, Error, repeat_for};

/// The longest that a server holds a call.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl Client {
    /// Sends the request; with a deadline again and again, until it is answered or refused.
    async fn make<Q, A, F>(&self, mut request: Q, send: impl Fn(Channel, Q) -> F) -> Result<A, Error>
    where
        Q: Request,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let once = async |request| Ok(send(self.channel.clone(), request).await?.into_inner());
        let Some(deadline) = self.deadline else {
            return once(request).await;
        };
        identify(&mut request);
        let (begun, wait) = (Instant::now(), wait_of(&mut request));
        let mut is_again = false;
        let tried = || {
            if std::mem::replace(&mut is_again, true) && !wait.is_zero() {
                wait_for(wait.saturating_sub(begun.elapsed()), &mut request);
            }
            once(request.clone())
        };
        repeat_for(deadline + wait, tried).await
    }
}

fn wait_of(request: &mut impl Request) -> Duration {
    let wait = request.wait_mut().and_then(|wait| Duration::try_from(*wait).ok());
    wait.unwrap_or_default().min(LONGEST_WAIT)
}

/// A further try waits for the rest of the time, so that it is answered within the deadline. With its request_id it is the
/// same call: the wait is no part of its content.
fn wait_for(left: Duration, request: &mut impl Request) {
    if let (Some(wait), Ok(left)) = (request.wait_mut(), left.try_into()) {
        *wait = left;
    }
}

/// Generates a method for each RPC of the catalogue.
macro_rules! calls {
    ($($module:ident::$stub:ident { $($call:ident($request:ident) -> $response:ident,)+ })+) => {
        impl Client {
            $($(
                #[doc = concat!("Calls `", stringify!($call), "`: [`v1::", stringify!($module), "::", stringify!($stub), "::", stringify!($call), "`] documents what the RPC does and which errors it returns.")]
                ///
                /// # Errors
                /// The server refused the call: the error has a reason. Or the answer was lost: the error has none.
                pub async fn $call(&self, request: v1::$request) -> Result<v1::$response, Error> {
                    self.make(request, |channel, request| async move {
                        let stub = v1::$module::$stub::new(channel);
                        stub.max_decoding_message_size(MAX_RESPONSE_BYTES).$call(request).await
                    }).await
                }
            )+)+

            /// Calls an RPC by its name, such as `ClaimTask`, with an encoded request, and returns the encoded response.
            /// This is for programs that learn at run time which RPC to call.
            ///
            /// # Errors
            /// Those of the RPC; UNIMPLEMENTED if no unary RPC has this name, INVALID_ARGUMENT if the request can't be decoded.
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

// A client has no injected clock: these ids only need to be unique.
#[allow(clippy::disallowed_methods)]
fn identify(request: &mut impl Request) {
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

    /// What the server was asked, by a client that has its answer at the third try.
    async fn tries<Q: Request>(client: Client, request: Q) -> Vec<Q> {
        let asked = RefCell::new(Vec::new());
        let answer = client.make(request, |_, request| {
            asked.borrow_mut().push(request);
            let answered = asked.borrow().len() == 3;
            async move { answered.then(|| Response::new(())).ok_or_else(|| Status::unavailable("away")) }
        });
        // Without a retry there is none.
        let _ = answer.await;
        asked.into_inner()
    }

    fn client() -> Client {
        Client::connect_lazy("127.0.0.1:1").unwrap()
    }

    #[tokio::test]
    async fn all_tries_of_what_changes_something_are_one_call() {
        let asked = tries(client(), ClaimTaskRequest::default()).await;
        assert_eq!(asked.len(), 3);
        assert_eq!(Uuid::parse_str(&asked[0].request_id).unwrap().get_version_num(), 7);
        assert!(asked.iter().all(|request| *request == asked[0]));
        let again = tries(client(), ClaimTaskRequest::default()).await;
        assert_ne!(again[0].request_id, asked[0].request_id);
    }

    #[tokio::test]
    async fn what_the_caller_has_named_keeps_its_name_and_what_changes_nothing_has_none() {
        let named = ClaimTaskRequest { request_id: "mine".into(), ..ClaimTaskRequest::default() };
        assert_eq!(tries(client(), named.clone()).await, vec![named; 3]);
        assert_eq!(tries(client(), HeartbeatRequest::default()).await.len(), 3);
        assert_eq!(tries(client(), ListRunsRequest::default()).await.len(), 3);
    }

    #[tokio::test]
    async fn without_retry_a_call_is_made_once_as_it_is() {
        let asked = tries(client().without_retry(), ClaimTaskRequest::default()).await;
        assert_eq!(asked, [ClaimTaskRequest::default()]);
    }

    #[tokio::test]
    async fn a_wait_comes_on_top_of_the_deadline() {
        let short = client().with_deadline(Duration::ZERO);
        let late = |channel: Channel, _| async move {
            drop(channel);
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(Response::new(()))
        };
        let lost = short.make(ClaimTaskRequest::default(), late).await.unwrap_err();
        assert_eq!(lost.code(), Code::DeadlineExceeded);
        let wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        short.make(ClaimTaskRequest { wait, ..ClaimTaskRequest::default() }, late).await.unwrap();
    }

    #[tokio::test]
    async fn a_further_try_waits_for_the_rest_of_the_time() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let asked = tries(client(), ClaimTaskRequest { wait: seconds(60), ..ClaimTaskRequest::default() }).await;
        let waits = asked.iter().map(|request| Duration::try_from(request.wait.unwrap()).unwrap());
        let waits: Vec<Duration> = waits.collect();
        assert_eq!(waits[0], Duration::from_secs(60));
        assert!(waits[2] < waits[1] && waits[1] < waits[0] && waits[2] > Duration::from_secs(50), "{waits:?}");
        assert_eq!(asked[2].request_id, asked[0].request_id);
        // What can't be taken stays so, for the server to refuse.
        let refused = ClaimTaskRequest { wait: seconds(-1), ..ClaimTaskRequest::default() };
        assert!(tries(client(), refused).await.iter().all(|request| request.wait == seconds(-1)));
    }

    #[tokio::test]
    async fn a_refusal_is_not_asked_again_and_a_name_that_is_no_call_is_told() {
        let (client, asked) = (client(), RefCell::new(0));
        let refused = client.make(ListRunsRequest::default(), |_, _| {
            *asked.borrow_mut() += 1;
            async { Err::<Response<()>, _>(Status::resource_exhausted("larger than 16 MiB")) }
        });
        assert_eq!(refused.await.unwrap_err().code(), Code::ResourceExhausted);
        assert_eq!(asked.into_inner(), 1);
        assert_eq!(client.call_encoded("Nothing", &[]).await.unwrap_err().code(), Code::Unimplemented);
        assert_eq!(client.call_encoded("GetRun", &[7]).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
