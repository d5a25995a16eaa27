//! This module contains the layer that refuses calls to an overloaded server before the calls reach a service.
//!
//! The server serves at most `limits::CALLS_IN_SERVICE` LIMITED calls at the same time. The server refuses further
//! LIMITED calls before parsing the requests, because calls that wait in Tokio tasks and sockets would form an
//! unbounded queue.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, Either, FutureExt};
use prost::bytes::Buf;
use runhub_api::Rpc;
use runhub_api::v1;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::codegen::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::status;
use crate::domain::limits;

/// Time between the retries of two refused calls. Without this interval, all callers would retry their refused calls at
/// the same time.
const RETRY_SPACING: Duration = Duration::from_micros(500);
/// Minimum time between the refusal and the retry of a call.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Maximum time between the refusal and the retry of a call.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Maximum time that the server waits for the rest of a refused request.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// The layer that admits or refuses calls. Clones share the permits and the retry schedule.
#[derive(Clone)]
pub struct Admission {
    permits: Arc<Semaphore>,
    retries: Arc<RetrySchedule>,
}

impl Default for Admission {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(limits::CALLS_IN_SERVICE)), retries: Arc::default() }
    }
}

impl<S> Layer<S> for Admission {
    type Service = AdmissionService<S>;

    fn layer(&self, inner: S) -> AdmissionService<S> {
        AdmissionService { inner, admission: self.clone() }
    }
}

/// A service behind the admission layer.
#[derive(Clone)]
pub struct AdmissionService<S> {
    inner: S,
    admission: Admission,
}

impl<S, In, Out> Service<Request<In>> for AdmissionService<S>
where
    S: Service<Request<In>, Response = Response<Out>, Future: Send + 'static>,
    S::Error: Send + 'static,
    In: Body<Data: Send> + Send + 'static,
    Out: Default + Send + 'static,
{
    type Response = Response<Out>;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Out>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        if !is_limited(request.uri().path()) {
            return Either::Left(self.inner.call(request));
        }
        Either::Right(match Arc::clone(&self.admission.permits).try_acquire_owned() {
            Ok(permit) => {
                let served = self.inner.call(request);
                async move {
                    let _permit = permit;
                    served.await
                }
                .boxed()
            }
            Err(_) => {
                let delay = self.admission.retries.next_delay(Instant::now());
                async move {
                    // If the request is still incomplete after `DRAIN_TIMEOUT`, answer the call anyway, so that a slow
                    // client can't keep the refused call open.
                    let _ = timeout(DRAIN_TIMEOUT, drain_body(request.into_body())).await;
                    Ok(status::new_overloaded_status(delay).into_http())
                }
                .boxed()
            }
        })
    }
}

/// Reads and drops the rest of a request, up to `limits::REQUEST_BYTES`. If the server answered before the end of the
/// request, the stream would be reset. HTTP/2 closes a connection with too many reset streams, which would also
/// disconnect the watchers on the connection.
async fn drain_body(body: impl Body) {
    let mut body = pin!(body);
    let mut bytes = 0;
    while bytes <= limits::REQUEST_BYTES
        && let Some(Ok(frame)) = poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        bytes += frame.data_ref().map_or(0, Buf::remaining);
    }
}

/// Returns whether the number of served calls to this path is limited. Calls to unknown paths and to other APIs, such
/// as health and reflection, are never limited, because these calls do not use the store.
fn is_limited(path: &str) -> bool {
    Rpc::find_by_path(path).is_some_and(|rpc| rpc.admission == v1::Admission::Limited)
}

/// A schedule that spreads the retries of refused calls over time. The value is the time of the latest scheduled retry,
/// or None before the first refusal.
#[derive(Default)]
struct RetrySchedule(Mutex<Option<Instant>>);

impl RetrySchedule {
    /// Returns the delay after which the next refused call should retry.
    fn next_delay(&self, now: Instant) -> Duration {
        // While a thread holds the schedule's lock, no code that can panic runs, so the value is valid even if the lock
        // is poisoned.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let soonest = now + MIN_RETRY_DELAY;
        let next = latest.map_or(soonest, |latest| soonest.max(latest + RETRY_SPACING));
        // A call must not wait longer than `MAX_RETRY_DELAY`. If the next retry would be later, the schedule restarts
        // at the minimum delay.
        let next = if next > now + MAX_RETRY_DELAY { soonest } else { next };
        *latest = Some(next);
        next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_and_waiting_calls_are_never_limited() {
        for path in [
            "/runhub.v1.TaskService/Heartbeat",
            "/runhub.v1.EventService/SubscribeEvents",
            "/grpc.health.v1.Health/Check",
        ] {
            assert!(!is_limited(path), "{path}");
        }
        for path in ["/runhub.v1.EventService/AppendEvents", "/runhub.v1.RunService/ListRuns"] {
            assert!(is_limited(path), "{path}");
        }
    }

    #[test]
    fn refused_calls_retry_one_after_the_other() {
        let retries = RetrySchedule::default();
        let now = Instant::now();
        let delays: Vec<_> = (0..30_000).map(|_| retries.next_delay(now)).collect();
        assert_eq!(delays[0], MIN_RETRY_DELAY);
        assert_eq!(delays[4] - delays[0], 4 * RETRY_SPACING);
        assert!(delays.iter().all(|delay| (MIN_RETRY_DELAY..=MAX_RETRY_DELAY).contains(delay)));
        assert_eq!(retries.next_delay(now + MAX_RETRY_DELAY + MAX_RETRY_DELAY), MIN_RETRY_DELAY);
    }

    #[tokio::test]
    async fn call_beyond_the_limit_is_refused_with_a_retry_delay() {
        let never = tower::service_fn(|_: Request<String>| {
            std::future::pending::<Result<Response<()>, std::convert::Infallible>>()
        });
        let mut service = Admission::default().layer(never);
        let request =
            |rpc: &str| Request::builder().uri(format!("http://host/runhub.v1.{rpc}")).body(String::new()).unwrap();
        let mut served: Vec<_> =
            (0..limits::CALLS_IN_SERVICE).map(|_| service.call(request("EventService/AppendEvents"))).collect();
        let refused = service.call(request("EventService/AppendEvents")).now_or_never().unwrap().unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8");
        assert!(service.call(request("TaskService/Heartbeat")).now_or_never().is_none());
        // Dropping a served call releases the call's permit, so the server admits the next call.
        served.pop();
        assert!(service.call(request("EventService/AppendEvents")).now_or_never().is_none());
    }
}
