//! This module opens a `tracing` span for each RPC, so that each log line names the call that caused the line.

use std::time::Duration;

use runhub_api::Rpc;
use tonic::Code;
use tonic::codegen::http::{Request, Response};
use tower_http::classify::{GrpcErrorsAsFailures, SharedClassifier};
use tower_http::trace::{MakeSpan, OnResponse, TraceLayer};
use tracing::Span;

use super::overload_log::OverloadLog;

/// The layer that opens a span for each RPC.
pub type RpcTrace = TraceLayer<SharedClassifier<GrpcErrorsAsFailures>, RpcSpan, (), AnswerLog, (), (), ()>;

/// Returns the layer that opens a span `rpc` for each call. At the level `debug`, the layer also logs the latency of
/// each call. The layer logs the start and the end of each overload.
pub fn layer() -> RpcTrace {
    TraceLayer::new_for_grpc()
        .make_span_with(RpcSpan)
        .on_request(())
        .on_response(AnswerLog::default())
        .on_body_chunk(())
        .on_eos(())
        // Do not log failures here, because `rpc/status.rs` logs the errors that an operator needs, with their causes.
        .on_failure(())
}

/// Opens a span with the name of the RPC.
#[derive(Debug, Clone, Copy)]
pub struct RpcSpan;

impl<B> MakeSpan<B> for RpcSpan {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        match Rpc::find_by_path(request.uri().path()) {
            Some(rpc) => tracing::info_span!("rpc", name = rpc.name),
            // Operators rarely need health checks and reflection calls, so these calls have a span only at the level
            // `debug`.
            None => tracing::debug_span!("rpc", path = request.uri().path()),
        }
    }
}

/// Logs the latency of each call, and records refused calls for the overload log. The latency of a stream is the time
/// until the stream starts.
#[derive(Debug, Clone, Default)]
pub struct AnswerLog {
    overloads: OverloadLog,
}

impl<B> OnResponse<B> for AnswerLog {
    fn on_response(self, response: &Response<B>, latency: Duration, span: &Span) {
        // An error response without an HTTP body has the gRPC code in the headers. Other responses have the code in the
        // trailers, which are not sent yet, so a response without a code in the headers is logged with the code 0.
        let code = response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
        // The admission layer, the writer's queue and the readers refuse calls with RESOURCE_EXHAUSTED, and no other
        // error has this code.
        if code == Code::ResourceExhausted {
            self.overloads.record_refusal();
        }
        tracing::debug!(parent: span, code = code as i32, latency_us = latency.as_micros(), "answered");
    }
}
