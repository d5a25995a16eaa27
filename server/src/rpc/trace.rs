//! This module opens a `tracing` span for each RPC, so that each log line names the call that caused the line. The
//! module also logs the responses.

use runhub_api::Rpc;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::util::MapResponseLayer;
use tracing::Span;

use super::overload_log::OverloadLog;

/// Returns a new span `rpc` with the name of the RPC that the request calls. tonic enters the span while the call runs.
pub fn open_span(request: &Request<()>) -> Span {
    match Rpc::find_by_path(request.uri().path()) {
        Some(rpc) => tracing::info_span!("rpc", name = rpc.name),
        // Operators rarely need the spans of health checks and reflection calls, so these spans exist only at the level
        // `debug`.
        None => tracing::debug_span!("rpc", path = request.uri().path()),
    }
}

/// Returns a layer that logs the status of each response at the level `debug`, and that logs the start and the end of
/// each overload.
pub fn response_layer() -> MapResponseLayer<impl Fn(Response<Body>) -> Response<Body> + Clone> {
    let overloads = OverloadLog::default();
    MapResponseLayer::new(move |response| {
        let code = find_code(&response);
        // The admission layer, the writer's queue and the readers refuse calls with RESOURCE_EXHAUSTED, and no other
        // error has this code.
        if code == Code::ResourceExhausted {
            overloads.record_refusal();
        }
        // `rpc/status.rs` logs the errors that an operator needs, with their causes.
        tracing::debug!(?code, "response");
        response
    })
}

/// Returns the gRPC code of a response. An error response without an HTTP body has the code in the headers. Other
/// responses have the code in the trailers, which are not sent yet, so this function returns `Ok` for these responses.
fn find_code(response: &Response<Body>) -> Code {
    response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}
