//! This module refuses requests that are not gRPC requests, and converts the refusals of tonic, which decodes the
//! requests, to the errors of the API.

use http_body_util::Full;
use tonic::body::Body;
use tonic::codegen::http::header::CONTENT_TYPE;
use tonic::codegen::http::{HeaderMap, Response, StatusCode};
use tonic::{Code, Status};

use crate::error::{Error, Result};
use crate::rpc::status;

/// The content type of a gRPC request. A suffix such as "+proto" can follow.
const GRPC: &str = "application/grpc";

/// Returns the response to a request in another version of HTTP, such as the request of a browser.
pub fn refuse_http1() -> Response<Body> {
    let text = "This is a gRPC server, which serves HTTP/2 only: use a gRPC client, such as grpcurl.\n";
    refuse(StatusCode::HTTP_VERSION_NOT_SUPPORTED, text)
}

/// Returns the response to a request with another content type than that of gRPC.
pub fn refuse_content_type() -> Response<Body> {
    let text = "This is a gRPC server, which serves the content type application/grpc only: use a gRPC client, such as \
                grpcurl.\n";
    refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
}

fn refuse(code: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(text)));
    *response.status_mut() = code;
    response
}

/// Returns whether the headers of a request have the content type of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let suffix = content_type.and_then(|value| value.strip_prefix(GRPC));
    suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(['+', ';']))
}

/// Checks the response of a service. Fails with `Error::Overloaded` if the service has refused the call because of a
/// full queue, so that the refusal is delayed like all others. Fails with `Error::InvalidField` if tonic could not
/// decode the request.
pub fn check(mut response: Response<Body>) -> Result<Response<Body>> {
    let Some(status) = Status::from_header_map(response.headers()) else { return Ok(response) };
    match status.code() {
        Code::ResourceExhausted => Err(Error::Overloaded),
        // A handler's error has details, so this error is tonic's.
        Code::Internal if status.details().is_empty() => Err(unreadable(status.message())),
        _ => {
            status::shorten_message(response.headers_mut());
            Ok(response)
        }
    }
}

/// Returns the error for a request that is not the encoding of one message. `cause` describes why.
pub fn unreadable(cause: &str) -> Error {
    let cause = cause.trim_end_matches('.');
    Error::field(
        "request",
        format!("the server can't decode the request ({cause}): send the request message of the RPC's proto"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_type_of_grpc_can_have_a_suffix() {
        let is_grpc_type = |value: &str| is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]));
        for value in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(is_grpc_type(value), "{value}");
        }
        for value in ["", "text/html", "application/json", "application/grpc-web", "application/grpc-web+proto"] {
            assert!(!is_grpc_type(value), "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
