//! Who is let in when more calls come than can be served. Beyond so many at once the next is refused before it is
//! parsed: what waits in tasks and sockets is a queue too, and the longest of all.

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

/// Whoever is refused is told to come back after the one before: so many come back in a second, not all at once.
const COMEBACK_SPACING: Duration = Duration::from_micros(500);
const SOONEST_COMEBACK: Duration = Duration::from_millis(200);
const LATEST_COMEBACK: Duration = Duration::from_secs(5);

/// How long what is left of a refused request is waited for.
const REFUSED_WITHIN: Duration = Duration::from_millis(100);

/// Counts the calls in service.
#[derive(Clone)]
pub struct Admission {
    places: Arc<Semaphore>,
    comebacks: Arc<Comebacks>,
}

/// With nobody in service.
impl Default for Admission {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(limits::CALLS_IN_SERVICE)), comebacks: Arc::default() }
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitting<S>;

    fn layer(&self, inner: S) -> Admitting<S> {
        Admitting { inner, admission: self.clone() }
    }
}

/// A service behind it.
#[derive(Clone)]
pub struct Admitting<S> {
    inner: S,
    admission: Admission,
}

impl<S, In, Out> Service<Request<In>> for Admitting<S>
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
        Either::Right(match Arc::clone(&self.admission.places).try_acquire_owned() {
            Ok(place) => {
                let served = self.inner.call(request);
                async move {
                    let _place = place;
                    served.await
                }
                .boxed()
            }
            Err(_) => {
                let delay = self.admission.comebacks.next(Instant::now());
                async move {
                    // Answered by then, whatever is still to come.
                    let _ = timeout(REFUSED_WITHIN, pass_over(request.into_body())).await;
                    Ok(status::overloaded(delay).into_http())
                }
                .boxed()
            }
        })
    }
}

/// Lets the rest of a request go by. An answer before its end would reset the stream, and HTTP/2 gives up a connection
/// with many of those, together with the watchers on it.
async fn pass_over(body: impl Body) {
    let (mut body, mut bytes) = (pin!(body), 0);
    // Whatever ends it, an error too, is the end; what is longer than any request is not waited for.
    while bytes <= limits::REQUEST_BYTES
        && let Some(Ok(frame)) = poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        bytes += frame.data_ref().map_or(0, Buf::remaining);
    }
}

/// Returns whether the call is refused when too many calls of its class are being served. Paths of other APIs, such as
/// health and reflection, and unknown paths are never refused: they use no store.
fn is_limited(path: &str) -> bool {
    Rpc::by_path(path).is_some_and(|rpc| rpc.admission == v1::Admission::Limited)
}

/// When those who were refused are to call again.
#[derive(Default)]
struct Comebacks(Mutex<Option<Instant>>);

impl Comebacks {
    /// How long the next one is to wait.
    fn next(&self, now: Instant) -> Duration {
        // Nothing panics with it.
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let soonest = now + SOONEST_COMEBACK;
        let next = latest.map_or(soonest, |latest| soonest.max(latest + COMEBACK_SPACING));
        // So many are refused that their times begin anew.
        let next = if next > now + LATEST_COMEBACK { soonest } else { next };
        *latest = Some(next);
        next - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_and_what_may_wait_are_always_let_in() {
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
    fn those_refused_come_back_one_after_the_other() {
        let (comebacks, now) = (Comebacks::default(), Instant::now());
        let delays: Vec<_> = (0..30_000).map(|_| comebacks.next(now)).collect();
        assert_eq!(delays[0], SOONEST_COMEBACK);
        assert_eq!(delays[4] - delays[0], 4 * COMEBACK_SPACING);
        assert!(delays.iter().all(|delay| (SOONEST_COMEBACK..=LATEST_COMEBACK).contains(delay)));
        assert_eq!(comebacks.next(now + LATEST_COMEBACK + LATEST_COMEBACK), SOONEST_COMEBACK);
    }

    #[tokio::test]
    async fn beyond_so_many_at_once_a_call_is_refused_with_when_to_call_again() {
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
        // Who is gone has left a place.
        served.pop();
        assert!(service.call(request("EventService/AppendEvents")).now_or_never().is_none());
    }
}
