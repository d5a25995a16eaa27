//! This module opens a `tracing` span for each RPC, so that each log line names the call that caused the line. The
//! module also logs the responses.

use runhub_api::Rpc;
use tonic::Code;
use tonic::codegen::http::Response;
use tracing::Span;

use super::overload_log::OverloadLog;

/// Returns a new span `rpc` with the name of the RPC with the path. The caller enters the span while the call runs.
pub fn open_span(path: &str) -> Span {
    match Rpc::find_by_path(path) {
        Some(rpc) => tracing::info_span!("rpc", name = rpc.name),
        // Operators rarely need the spans of health checks and reflection calls, so these spans exist only at the level
        // `debug`.
        None => tracing::debug_span!("rpc", path),
    }
}

/// A log of the status of each response at the level `debug`, and of the start and the end of each overload.
#[derive(Default)]
pub struct ResponseLog(OverloadLog);

impl ResponseLog {
    /// Records a response.
    pub fn record<B>(&self, response: &Response<B>) {
        let code = find_code(response);
        // The admission, the budget, the writer's queue and the readers refuse calls with RESOURCE_EXHAUSTED, and no
        // other error has this code.
        if code == Code::ResourceExhausted {
            self.0.record_refusal();
        }
        // `rpc/status.rs` logs the errors that an operator needs, with their causes.
        tracing::debug!(?code, "response");
    }
}

/// Returns the gRPC code of a response. An error response without an HTTP body has the code in the headers. Other
/// responses have the code in the trailers, which are not sent yet, so this function returns `Ok` for these responses.
fn find_code<B>(response: &Response<B>) -> Code {
    response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}
