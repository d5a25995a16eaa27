//! This module serves the calls on all connections. Each call passes the same steps: the server reads the whole request,
//! admits or refuses the call, calls the service, and sends the response. Each message needs memory from the budget.

pub mod budget;
mod deadline;
mod large;
mod request;
mod response;

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::Version;
use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use runhub_api::Rpc;
use runhub_api::v1;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response, StatusCode};
use tonic::service::Routes;
use tower::ServiceExt;
use tracing::Instrument;

use self::budget::{Budget, ConnectionBudget, Reservation};
use self::large::LargeResponses;
pub use self::response::ResponseBody;
use self::response::{EncodedResponse, send_stream};
use super::admission::Admission;
use super::trace;
use super::trace::ResponseLog;
use crate::connections::Activity;
use crate::error::{Error, Result};

/// The services of the API, and the limits of the calls. Clones share the limits.
#[derive(Clone)]
pub struct Calls(Arc<Shared>);

struct Shared {
    routes: Routes,
    budget: Arc<Budget>,
    admission: Admission,
    large_responses: LargeResponses,
    log: ResponseLog,
}

impl Calls {
    /// Returns the services in `routes`. Messages use at most `max_buffered` bytes of memory.
    pub fn new(routes: Routes, max_buffered: usize) -> Self {
        Self(Arc::new(Shared {
            routes: routes.prepare(),
            budget: Arc::new(Budget::new(max_buffered)),
            admission: Admission::default(),
            large_responses: LargeResponses::new(),
            log: ResponseLog::default(),
        }))
    }

    /// Returns the service for the calls on a new connection.
    pub fn for_connection(&self, activity: Arc<Activity>) -> ConnectionCalls {
        ConnectionCalls { calls: Arc::clone(&self.0), budget: self.0.budget.for_connection(), activity }
    }
}

/// The service for the calls on one connection.
#[derive(Clone)]
pub struct ConnectionCalls {
    calls: Arc<Shared>,
    budget: ConnectionBudget,
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
        if request.version() != Version::HTTP_2 {
            return send_stream(refuse_http1(), &self.activity);
        }
        let response = match Rpc::find_by_path(request.uri().path()) {
            Some(rpc) => self.serve_rpc(rpc, request).await,
            // Health, reflection, and paths that do not exist.
            None => Ok(send_stream(self.call_service(request.map(Body::new)).await, &self.activity)),
        };
        let response = response.unwrap_or_else(|error| send_stream(self.to_status(error).into_http(), &self.activity));
        self.calls.log.record(&response);
        response
    }

    /// Serves a call of the API, within the time that the caller has set.
    async fn serve_rpc(&self, rpc: &Rpc, request: Request<Incoming>) -> Result<Response<ResponseBody>> {
        match deadline::parse(request.headers()) {
            Some(time) => timeout(time, self.serve_in_time(rpc, request)).await.unwrap_or(Err(Error::DeadlineExceeded)),
            None => self.serve_in_time(rpc, request).await,
        }
    }

    async fn serve_in_time(&self, rpc: &Rpc, request: Request<Incoming>) -> Result<Response<ResponseBody>> {
        let (head, body) = request.into_parts();
        let is_first = rpc.admission == v1::Admission::First;
        let read = request::read(body, |bytes| self.budget.reserve_request(bytes, is_first)).await?;
        let request = Request::from_parts(head, Body::new(Full::new(read.bytes)));
        if rpc.streams {
            return Ok(send_stream(self.call_service(request).await, &self.activity));
        }
        let large = self.calls.large_responses.reserve(rpc, &self.budget).await?;
        let permit = self.calls.admission.admit(rpc)?;
        let response = EncodedResponse::encode(self.call_service(request).await).await.map_err(Error::internal)?;
        drop((permit, read.reservation));
        let reservation = self.reserve_response(rpc, large.map(|large| large.reservation), response.bytes())?;
        Ok(response.send(Some(reservation), &self.activity))
    }

    /// Returns the reserved memory for a response of `bytes`. `reserved` is the memory that was reserved for the largest
    /// response. Fails with `Error::Overloaded` if the memory can't be reserved. A call that has changed state never
    /// fails.
    fn reserve_response(&self, rpc: &Rpc, reserved: Option<Reservation>, bytes: usize) -> Result<Reservation> {
        match reserved {
            Some(mut reservation) => {
                reservation.shrink_to(bytes);
                Ok(reservation)
            }
            None if rpc.mutates => Ok(self.budget.take_response(bytes)),
            None => self.budget.reserve_response(bytes).ok_or(Error::Overloaded),
        }
    }

    async fn call_service(&self, request: Request<Body>) -> Response<Body> {
        let Ok(response) = self.calls.routes.clone().oneshot(request).await;
        response
    }

    fn to_status(&self, error: Error) -> Status {
        match error {
            Error::Overloaded => self.calls.admission.new_refusal(),
            error => error.into(),
        }
    }
}

/// Returns the response to a request in another version of HTTP, such as the request of a browser.
fn refuse_http1() -> Response<Body> {
    let text = "This is a gRPC server, which serves HTTP/2 only: use a gRPC client, such as grpcurl.\n";
    let mut response = Response::new(Body::new(Full::from(text)));
    *response.status_mut() = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
    response
}
