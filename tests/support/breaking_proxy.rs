//! An HTTP proxy that breaks calls and streams without closing a connection, as nginx does when it loses its server or
//! when a timeout of nginx passes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use http_body_util::{BodyStream, StreamBody};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, ServiceExt};

/// A stream is reset after this number of DATA frames.
const FRAMES_PER_STREAM: usize = 2;

/// A proxy that breaks calls. The proxy answers the first of three requests of a unary RPC without the server, drops
/// the server's response to the second, and forwards the third. The proxy forwards and then resets each stream.
pub struct BreakingProxy {
    pub address: String,
    resets: Arc<AtomicUsize>,
}

impl BreakingProxy {
    /// Starts a proxy of the server at `url`.
    pub async fn start(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let resets = Arc::<AtomicUsize>::default();
        let server = Endpoint::from_shared(url.to_owned()).unwrap().connect_lazy();
        tokio::spawn(serve(listener, Forwarder { server, requests: Arc::default(), resets: resets.clone() }));
        Self { address, resets }
    }

    /// Returns the number of streams that the proxy has reset.
    pub fn resets(&self) -> usize {
        self.resets.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, forwarder: Forwarder) {
    while let Ok((client, _)) = listener.accept().await {
        let forwarder = forwarder.clone();
        let service = service_fn(move |request| forwarder.clone().handle(request));
        tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(client), service));
    }
}

#[derive(Clone)]
struct Forwarder {
    server: Channel,
    /// The number of requests of each RPC.
    requests: Arc<Mutex<HashMap<String, usize>>>,
    resets: Arc<AtomicUsize>,
}

impl Forwarder {
    async fn handle(mut self, request: Request<Incoming>) -> Result<Response<Body>, tonic::transport::Error> {
        let path = request.uri().path().to_owned();
        let is_stream = path.ends_with("/SubscribeEvents");
        let number = if is_stream { 0 } else { self.count(path) };
        if number % 3 == 1 {
            return Ok(html_page(StatusCode::INTERNAL_SERVER_ERROR));
        }
        let response = self.server.ready().await?.call(request.map(Body::new)).await?;
        if number % 3 == 2 {
            return Ok(html_page(StatusCode::GATEWAY_TIMEOUT));
        }
        Ok(if is_stream { response.map(|body| reset_after_frames(body, self.resets)) } else { response })
    }

    /// Counts a unary request, and returns the number of requests of its RPC.
    fn count(&self, path: String) -> usize {
        let mut requests = self.requests.lock().unwrap();
        let count = requests.entry(path).or_default();
        *count += 1;
        *count
    }
}

/// Returns a response without a gRPC status.
fn html_page(status: StatusCode) -> Response<Body> {
    let page = Body::new("<html>the proxy has no response of the server</html>".to_owned());
    Response::builder().status(status).header(CONTENT_TYPE, "text/html").body(page).unwrap()
}

/// Returns a body whose error makes the proxy reset the stream with INTERNAL_ERROR.
fn reset_after_frames(body: Body, resets: Arc<AtomicUsize>) -> Body {
    let reset = futures_util::stream::once(async move {
        resets.fetch_add(1, Ordering::SeqCst);
        Err(tonic::Status::internal("the proxy resets the stream"))
    });
    Body::new(StreamBody::new(BodyStream::new(body).take(FRAMES_PER_STREAM).chain(reset)))
}
