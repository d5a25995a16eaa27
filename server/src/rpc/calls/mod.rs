//! This module serves the calls on all connections. Each call passes the same steps: the server reads the whole
//! request, admits or refuses the call, calls the service, and sends the response. Each message needs memory from the
//! budget.

pub mod budget;
mod deadline;
pub mod events;
mod reflection;
mod refusal;
mod request;
mod response;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::Version;
use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use runhub_api::Rpc;
use runhub_api::v1;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;
use tower::ServiceExt;
use tracing::Instrument;

use self::budget::{Budget, ConnectionBudget, Reservation};
use self::deadline::Deadline;
use self::events::{Frames, Subscribed, to_frames};
pub use self::reflection::REFLECTION_BYTES;
use self::reflection::ReflectionStreams;
pub use self::response::ResponseBody;
use self::response::{EncodedResponse, send_events, send_other};
use super::admission::Admission;
use super::snapshot::spool::Spool;
use super::trace;
use super::trace::ResponseLog;
use crate::connections::Activity;
use crate::error::{Error, Result};

/// Size of the prefix of a gRPC message: a flag for compression, and the length of the message (4 bytes).
const PREFIX_BYTES: usize = 5;
/// The start of the paths of health checks.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// The start of the paths of reflection.
const REFLECTION: &str = "/grpc.reflection.";

/// Delay of the refusal of a call on an overloaded server. Without the delay, callers that repeat refused calls
/// immediately would use the processor time that the admitted calls need.
const REFUSAL_DELAY: Duration = Duration::from_millis(30);

/// The services of the API, and the limits of the calls. Clones share the limits.
#[derive(Clone)]
pub struct Calls(Arc<Shared>);

struct Shared {
    routes: Routes,
    budget: Arc<Budget>,
    admission: Admission,
    reflection: ReflectionStreams,
    spool: Arc<Spool>,
    log: ResponseLog,
}

impl Calls {
    /// Returns the services in `routes`. Messages use at most `max_buffered` bytes of memory. Large events that clients
    /// do not read are in `spool`.
    pub fn new(routes: Routes, max_buffered: usize, spool: Arc<Spool>) -> Self {
        Self(Arc::new(Shared {
            routes: routes.prepare(),
            budget: Arc::new(Budget::new(max_buffered)),
            admission: Admission::default(),
            reflection: ReflectionStreams::default(),
            spool,
            log: ResponseLog::default(),
        }))
    }

    /// Returns the service for the calls on a new connection.
    pub fn for_connection(&self, activity: Arc<Activity>) -> ConnectionCalls {
        ConnectionCalls {
            calls: Arc::clone(&self.0),
            budget: self.0.budget.for_connection(),
            reflection: self.0.reflection.for_connection(),
            activity,
        }
    }
}

/// The service for the calls on one connection.
#[derive(Clone)]
pub struct ConnectionCalls {
    calls: Arc<Shared>,
    budget: ConnectionBudget,
    reflection: ReflectionStreams,
    activity: Arc<Activity>,
}

impl HyperService<Request<Incoming>> for ConnectionCalls {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let calls = self.clone();
        let span = trace::open_span(request.uri().path());
        async move { Ok(calls.serve(request).await) }.instrument(span).boxed()
    }
}

impl ConnectionCalls {
    async fn serve(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let call = self.activity.open_call();
        if request.version() != Version::HTTP_2 {
            return send_other(refusal::refuse_http1(), call);
        }
        if !refusal::is_grpc(request.headers()) {
            return send_other(refusal::refuse_content_type(), call);
        }
        let deadline = Deadline::of_call(request.headers());
        let path = request.uri().path();
        let response = match Rpc::find_by_path(path) {
            Some(rpc) => deadline.limit(self.serve_rpc(rpc, request, deadline)).await,
            None if path.starts_with(HEALTH) => deadline.limit(self.serve_health(request, deadline)).await,
            None if path.starts_with(REFLECTION) => deadline.limit(self.serve_reflection(request, deadline)).await,
            // A path that does not exist.
            None => self.call_service(request.map(Body::new)).await.map(Answer::Other),
        };
        let response = match response {
            Ok(Answer::Events(response, frames)) => send_events(response, frames, call),
            Ok(Answer::Other(response)) => send_other(response, call),
            Ok(Answer::Unary(response, reservation)) => response.send(reservation, call),
            Err(error) => send_other(self.refuse(error).await, call),
        };
        self.calls.log.record(&response);
        response
    }

    /// Returns the response to a call that the server refuses, or whose response the server drops.
    async fn refuse(&self, error: Error) -> Response<Body> {
        let status = match error {
            Error::Overloaded => {
                sleep(REFUSAL_DELAY).await;
                self.calls.admission.new_refusal()
            }
            error => error.into(),
        };
        status.into_http()
    }

    async fn serve_health(&self, request: Request<Incoming>, deadline: Deadline) -> Result<Answer> {
        let (head, body) = request.into_parts();
        let read = request::read(body, |bytes| self.budget.reserve(bytes, true)).await?;
        let response = self.call_service(Request::from_parts(head, Body::new(read))).await?;
        Ok(Answer::Other(response.map(|body| deadline.limit_body(body))))
    }

    async fn serve_reflection(&self, request: Request<Incoming>, deadline: Deadline) -> Result<Answer> {
        let stream = self.reflection.open_stream()?;
        let response = self.call_service(request.map(|body| stream.check_requests(body))).await?;
        Ok(Answer::Other(response.map(|body| deadline.limit_body(stream.end_when_unread(body)))))
    }

    /// Serves a call of the API.
    async fn serve_rpc(&self, rpc: &Rpc, request: Request<Incoming>, deadline: Deadline) -> Result<Answer> {
        let (head, body) = request.into_parts();
        let is_first = rpc.admission == v1::Admission::First;
        let read = request::read(body, |bytes| self.budget.reserve(bytes, is_first)).await?;
        let request = Request::from_parts(head, Body::new(read));
        if rpc.streams {
            return Ok(self.answer_with_events(self.call_service(request).await?, deadline));
        }
        // Do not create a large response that the server would have to drop.
        if rpc.max_response_bytes.is_some_and(|bytes| !self.budget.has_room(bytes)) {
            return Err(Error::Overloaded);
        }
        let permit = self.calls.admission.admit(rpc)?;
        let response = self.call_service(request).await?;
        let response = EncodedResponse::encode(response).await.map_err(Error::internal)?;
        drop(permit);
        let dropped = if rpc.mutates { Error::ResponseDropped } else { Error::Overloaded };
        let reservation = self.budget.reserve(response.bytes(), is_first).ok_or(dropped)?;
        Ok(Answer::Unary(response, reservation))
    }

    fn answer_with_events(&self, mut response: Response<Body>, deadline: Deadline) -> Answer {
        match Subscribed::take(&mut response) {
            Some(messages) => {
                let messages = deadline.limit_messages(messages);
                let frames = to_frames(messages, self.budget.clone(), Arc::clone(&self.calls.spool));
                Answer::Events(response, frames)
            }
            None => Answer::Other(response),
        }
    }

    /// Calls a service. Fails if the service refuses the call because of a full queue, or can't decode the request.
    async fn call_service(&self, request: Request<Body>) -> Result<Response<Body>> {
        let Ok(response) = self.calls.routes.clone().oneshot(request).await;
        refusal::check(response)
    }
}

/// The response of a service.
enum Answer {
    Unary(EncodedResponse, Reservation),
    Events(Response<Body>, Frames),
    /// The response of another API, or an error.
    Other(Response<Body>),
}
