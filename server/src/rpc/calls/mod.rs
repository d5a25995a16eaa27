//! This module serves the calls on all connections. Each call passes the same steps: the server reads the whole
//! request, admits or refuses the call, calls the service, and sends the response. Each message needs memory from the
//! budget.

pub mod budget;
mod deadline;
pub mod events;
mod reflection;
mod request;
mod response;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::Version;
use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use runhub_api::Rpc;
use runhub_api::v1;
use tokio::time::{sleep, timeout};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response, StatusCode};
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt;
use tracing::Instrument;

use self::budget::{Budget, ConnectionBudget, Reservation};
use self::events::{Frames, Subscribed, to_frames};
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
            return send_other(refuse_http1(), call);
        }
        let path = request.uri().path();
        let response = match Rpc::find_by_path(path) {
            Some(rpc) => self.serve_rpc(rpc, request).await,
            None if path.starts_with(HEALTH) => self.serve_health(request).await,
            None if path.starts_with(REFLECTION) => self.serve_reflection(request).await,
            // A path that does not exist.
            None => Ok(Answer::Other(self.call_service(request.map(Body::new)).await)),
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

    async fn serve_health(&self, request: Request<Incoming>) -> Result<Answer> {
        let (head, body) = request.into_parts();
        let read = request::read(body, |bytes| self.budget.reserve(bytes, true)).await?;
        Ok(Answer::Other(self.call_service(Request::from_parts(head, Body::new(read))).await))
    }

    async fn serve_reflection(&self, request: Request<Incoming>) -> Result<Answer> {
        let permits = self.reflection.open_stream()?;
        let response = self.call_service(request.map(reflection::end_when_idle)).await;
        Ok(Answer::Other(response.map(|body| reflection::end_when_unread(body, permits))))
    }

    /// Serves a call of the API, within the time that the caller has set.
    async fn serve_rpc(&self, rpc: &Rpc, request: Request<Incoming>) -> Result<Answer> {
        match deadline::parse(request.headers()) {
            Some(time) => {
                timeout(time, self.read_and_serve(rpc, request)).await.unwrap_or(Err(Error::DeadlineExceeded))
            }
            None => self.read_and_serve(rpc, request).await,
        }
    }

    async fn read_and_serve(&self, rpc: &Rpc, request: Request<Incoming>) -> Result<Answer> {
        let (head, body) = request.into_parts();
        let is_first = rpc.admission == v1::Admission::First;
        let read = request::read(body, |bytes| self.budget.reserve(bytes, is_first)).await?;
        let request = Request::from_parts(head, Body::new(read));
        if rpc.streams {
            return self.answer_with_events(self.call_service(request).await);
        }
        // Do not create a large response that the server would have to drop.
        if rpc.max_response_bytes.is_some_and(|bytes| !self.budget.has_room(bytes)) {
            return Err(Error::Overloaded);
        }
        let permit = self.calls.admission.admit(rpc)?;
        let response = check_overload(self.call_service(request).await)?;
        let response = EncodedResponse::encode(response).await.map_err(Error::internal)?;
        drop(permit);
        let dropped = if rpc.mutates { Error::ResponseDropped } else { Error::Overloaded };
        let reservation = self.budget.reserve(response.bytes(), is_first).ok_or(dropped)?;
        Ok(Answer::Unary(response, reservation))
    }

    fn answer_with_events(&self, response: Response<Body>) -> Result<Answer> {
        let mut response = check_overload(response)?;
        Ok(match Subscribed::take(&mut response) {
            Some(messages) => {
                let frames = to_frames(messages, self.budget.clone(), Arc::clone(&self.calls.spool));
                Answer::Events(response, frames)
            }
            None => Answer::Other(response),
        })
    }

    async fn call_service(&self, request: Request<Body>) -> Response<Body> {
        let Ok(response) = self.calls.routes.clone().oneshot(request).await;
        response
    }
}

/// Fails with `Error::Overloaded` if a service has refused a call because of a full queue, so that the refusal is
/// delayed like all others.
fn check_overload(response: Response<Body>) -> Result<Response<Body>> {
    let status = Status::from_header_map(response.headers());
    match status {
        Some(status) if status.code() == Code::ResourceExhausted => Err(Error::Overloaded),
        _ => Ok(response),
    }
}

/// The response of a service.
enum Answer {
    Unary(EncodedResponse, Reservation),
    Events(Response<Body>, Frames),
    /// The response of another API, or an error.
    Other(Response<Body>),
}

/// Returns the response to a request in another version of HTTP, such as the request of a browser.
fn refuse_http1() -> Response<Body> {
    let text = "This is a gRPC server, which serves HTTP/2 only: use a gRPC client, such as grpcurl.\n";
    let mut response = Response::new(Body::new(Full::from(text)));
    *response.status_mut() = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
    response
}
