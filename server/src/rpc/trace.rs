//! One `tracing` span for each RPC, so that a log line shows the call it belongs to.

use std::time::Duration;

use runhub_api::Rpc;
use tonic::codegen::http::{Request, Response};
use tower_http::classify::{GrpcErrorsAsFailures, SharedClassifier};
use tower_http::trace::{MakeSpan, OnResponse, TraceLayer};
use tracing::Span;

/// The layer that opens the spans.
pub type RpcTrace = TraceLayer<SharedClassifier<GrpcErrorsAsFailures>, RpcSpan, (), AnswerLog, (), (), ()>;

/// Returns the layer that opens a span `rpc` for each call. At the level debug it logs how long each answer took.
pub fn layer() -> RpcTrace {
    TraceLayer::new_for_grpc()
        .make_span_with(RpcSpan)
        .on_request(())
        .on_response(AnswerLog)
        .on_body_chunk(())
        .on_eos(())
        // `rpc/status.rs` logs the errors that an operator needs, with their causes.
        .on_failure(())
}

/// Opens a span with the name of the RPC.
#[derive(Debug, Clone, Copy)]
pub struct RpcSpan;

impl<B> MakeSpan<B> for RpcSpan {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        match Rpc::by_path(request.uri().path()) {
            Some(rpc) => tracing::info_span!("rpc", name = rpc.name),
            // Health checks and reflection are not worth a span at the usual level.
            None => tracing::debug_span!("rpc", path = request.uri().path()),
        }
    }
}

/// Logs how long the answer took; for a stream, the time until it began.
#[derive(Debug, Clone, Copy)]
pub struct AnswerLog;

impl<B> OnResponse<B> for AnswerLog {
    fn on_response(self, response: &Response<B>, latency: Duration, span: &Span) {
        // An error without a body has its code in the headers; a successful answer has it in the trailers.
        let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
        tracing::debug!(parent: span, code, latency_us = latency.as_micros(), "answered");
    }
}
