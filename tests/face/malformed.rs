//! Requests that no gRPC library sends, and errors that quote long fields, as seen in the bytes of the response.

use prost::Message;
use runhub_bench::abuse::raw::{self, DEFAULT_WINDOW, RawConnection};
use runhub_client::v1::*;
use tonic::codegen::http::{HeaderMap, StatusCode};
use tonic::{Code, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_types::StatusExt;

use crate::support::calls::*;
use crate::support::dump::dump;
use crate::support::{TestServer, soon};

const UNARY: &str = "/runhub.v1.RunService/CreateRun";
const STREAM: &str = "/runhub.v1.EventService/SubscribeEvents";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const HEALTH_STREAM: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const OLD_REFLECTION: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

const HEADERS: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// The response to a raw call.
struct Answer {
    http: StatusCode,
    /// The headers, and the trailers unless the response has no body.
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn status(&self) -> Status {
        Status::from_header_map(&self.headers).expect("the response has a status")
    }

    fn reason(&self) -> String {
        self.status().get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
    }

    /// Returns the size of the headers and trailers, as HTTP/2 defines the size.
    fn header_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }
}

/// Sends `bytes` as the whole request of a call and returns the response. Fails if the response does not end soon.
async fn send(address: &str, path: &str, headers: &[(&str, &str)], bytes: Vec<u8>) -> Answer {
    soon(read_answer(address, path, headers, bytes)).await
}

async fn read_answer(address: &str, path: &str, headers: &[(&str, &str)], bytes: Vec<u8>) -> Answer {
    let mut connection = RawConnection::connect(address, DEFAULT_WINDOW).await.unwrap();
    let mut call = connection.start_call_with(path, headers).await.unwrap();
    if bytes.is_empty() {
        call.request.end().unwrap();
    } else {
        call.request.send(bytes.into(), true).await.unwrap();
    }
    let response = call.response.await.unwrap();
    let http = response.status();
    let mut headers = response.headers().clone();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        bytes.extend(part);
    }
    headers.extend(body.trailers().await.unwrap().unwrap_or_default());
    Answer { http, headers, bytes }
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut bytes = raw::encode_prefix(message.len());
    bytes.extend(message);
    bytes
}

/// Returns requests that are not the encoding of one message, each with a word of the error.
fn malformed() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let whole = frame(&[0x0a, 1, b'x']);
    let flagged = |flag| [&[flag], &whole[1..]].concat();
    vec![
        ("a field that is cut off", frame(&[0x0a, 9, b'x']), "decode"),
        ("an endless varint", frame(&[0xff; 12]), "varint"),
        ("a text that is not UTF-8", frame(&[0x0a, 1, 0xff]), "UTF-8"),
        ("a message that ends early", whole[..whole.len() - 1].to_vec(), "EOF"),
        ("a prefix that ends early", whole[..3].to_vec(), "EOF"),
        ("a message marked as compressed", flagged(1), "compressed"),
        ("an unknown flag", flagged(7), "flag"),
    ]
}

#[tokio::test]
async fn undecodable_request_is_an_invalid_field_for_every_kind_of_rpc() {
    let server = TestServer::start().await;
    let before = dump(server.db());
    for path in [UNARY, STREAM, HEALTH, HEALTH_STREAM, REFLECTION, OLD_REFLECTION] {
        for (what, bytes, _) in malformed() {
            let answer = send(&server.address(), path, &HEADERS, bytes).await;
            let status = answer.status();
            assert_eq!(status.code(), Code::InvalidArgument, "{path} with {what}: {status:?}");
            assert_eq!(answer.reason(), "INVALID_FIELD", "{path} with {what}");
            let details = status.get_error_details();
            assert_eq!(details.bad_request().unwrap().field_violations[0].field, "request", "{path} with {what}");
        }
    }
    assert_eq!(dump(server.db()), before);
}

#[tokio::test]
async fn error_of_an_undecodable_request_names_the_problem() {
    let server = TestServer::start().await;
    for (what, bytes, word) in malformed() {
        let answer = send(&server.address(), UNARY, &HEADERS, bytes).await;
        assert!(answer.status().message().contains(word), "{what}: {}", answer.status().message());
    }
    let not_utf8 = send(&server.address(), UNARY, &HEADERS, frame(&[0x0a, 1, 0xff])).await.status();
    assert!(not_utf8.message().contains("CreateRunRequest.goal"), "{}", not_utf8.message());
    for path in [UNARY, STREAM, HEALTH, HEALTH_STREAM] {
        let none = send(&server.address(), path, &HEADERS, Vec::new()).await;
        assert_eq!((none.status().code(), none.reason().as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{path}");
    }
}

#[tokio::test]
async fn unknown_compression_is_refused_with_the_known_one() {
    let server = TestServer::start().await;
    let unknown = "é".repeat(3_000);
    for path in [UNARY, STREAM, HEALTH, REFLECTION] {
        for encoding in ["gzip", &unknown] {
            let headers = [&HEADERS[..], &[("grpc-encoding", encoding)]].concat();
            let answer = send(&server.address(), path, &headers, frame(&[])).await;
            assert_eq!(answer.status().code(), Code::Unimplemented, "{path}");
            assert_eq!(answer.headers["grpc-accept-encoding"], "identity", "{path}");
            assert!(answer.header_bytes() < 8 * 1024, "{path}: {}", answer.header_bytes());
        }
    }
}

#[tokio::test]
async fn other_content_type_is_refused_with_an_explanation() {
    let server = TestServer::start().await;
    let before = dump(server.db());
    let create = CreateRunRequest { goal: "goal".into(), repo_path: "/repo".into(), ..unset() }.encode_to_vec();
    for path in [UNARY, STREAM, HEALTH, REFLECTION] {
        for content_type in ["text/html", "application/json", "application/grpc-web+proto"] {
            let answer = send(&server.address(), path, &[("content-type", content_type)], frame(&create)).await;
            assert_eq!(answer.http, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path} with {content_type}");
            assert!(String::from_utf8(answer.bytes).unwrap().contains("application/grpc"), "{path}");
        }
    }
    assert_eq!(dump(server.db()), before);
    let with_suffix = [("content-type", "application/grpc+proto"), ("te", "trailers")];
    assert_eq!(send(&server.address(), UNARY, &with_suffix, frame(&create)).await.status().code(), Code::Ok);
}

#[tokio::test]
async fn length_over_the_limit_is_refused_before_the_message_arrives() {
    let server = TestServer::start().await;
    for path in [UNARY, STREAM, HEALTH] {
        let answer = send(&server.address(), path, &HEADERS, raw::encode_prefix(4 * 1024 * 1024 + 1)).await;
        assert_eq!(answer.status().code(), Code::OutOfRange, "{path}");
    }
    let answer = send(&server.address(), REFLECTION, &HEADERS, raw::encode_prefix(4 * 1024 + 1)).await;
    assert_eq!(answer.status().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn deadline_ends_every_kind_of_call() {
    let server = TestServer::start().await;
    let run_id = new_run(&server.client).await.id;
    let after_position = Some(append(&server.client, &run_id, vec![event("newest")]).await.last_position);
    let subscribe = frame(&SubscribeEventsRequest { run_id: run_id.clone(), ..unset() }.encode_to_vec());
    let wait = seconds(200);
    let list = ListEventsRequest { run_id, after_position, wait, ..unset() }.encode_to_vec();
    let symbol = MessageRequest::FileContainingSymbol("runhub.v1.Run".into());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(symbol) };
    let headers = [&HEADERS[..], &[("grpc-timeout", "300m")]].concat();
    for (path, bytes, is_answered) in [
        ("/runhub.v1.EventService/ListEvents", frame(&list), false),
        (STREAM, subscribe, true),
        (HEALTH_STREAM, frame(&[]), true),
    ] {
        let answer = send(&server.address(), path, &headers, bytes).await;
        assert_eq!(answer.status().code(), Code::DeadlineExceeded, "{path}");
        assert_eq!(answer.reason(), "DEADLINE_EXCEEDED", "{path}");
        assert_eq!(!answer.bytes.is_empty(), is_answered, "{path}");
    }
    let mut connection = RawConnection::connect(&server.address(), DEFAULT_WINDOW).await.unwrap();
    for path in [REFLECTION, OLD_REFLECTION] {
        let mut open = connection.start_call(path, Some("300m")).await.unwrap();
        open.request.send(frame(&request.encode_to_vec()).into(), false).await.unwrap();
        let mut body = open.response.await.unwrap().into_body();
        let mut bytes = 0;
        while let Some(part) = soon(body.data()).await {
            bytes += part.unwrap().len();
        }
        assert!(bytes > 0, "{path}");
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "4", "{path}");
    }
}

/// Clients refuse larger headers, and then report RESOURCE_EXHAUSTED instead of the error.
#[tokio::test]
async fn headers_of_an_error_that_quotes_a_long_field_stay_below_8_kib() {
    let server = TestServer::start().await;
    let run_id = new_run(&server.client).await.id;
    for letter in ["é", "→", "😀", "\u{7f}"] {
        let paths = vec![letter.repeat(1024 * 1024 / letter.len())];
        let update_mask = Some(prost_types::FieldMask { paths });
        let update = UpdateRunRequest { run_id: run_id.clone(), update_mask, ..unset() };
        let name = letter.repeat(256 / letter.len());
        let events = vec![EventDraft { kind: format!("\n{}", &name[letter.len()..]), ..event("k") }];
        let append = AppendEventsRequest { run_id: run_id.clone(), events, ..unset() };
        let tasks = vec![TaskDraft { depends_on: vec![name.clone()], ..draft("t") }];
        let add = AddTasksRequest { run_id: run_id.clone(), tasks, ..unset() };
        let get = GetRunRequest { run_id: letter.repeat(128 / letter.len()) };
        for (path, message, code) in [
            ("/runhub.v1.RunService/UpdateRun", update.encode_to_vec(), Code::InvalidArgument),
            ("/runhub.v1.EventService/AppendEvents", append.encode_to_vec(), Code::InvalidArgument),
            ("/runhub.v1.TaskService/AddTasks", add.encode_to_vec(), Code::InvalidArgument),
            ("/runhub.v1.RunService/GetRun", get.encode_to_vec(), Code::NotFound),
        ] {
            let answer = send(&server.address(), path, &HEADERS, frame(&message)).await;
            assert_eq!(answer.status().code(), code, "{path}: {:?}", answer.status());
            assert!(answer.header_bytes() < 8 * 1024, "{path} with {letter:?}: {}", answer.header_bytes());
            assert!(answer.headers["grpc-message"].len() <= 1024, "{path}");
        }
    }
}

#[tokio::test]
async fn reflection_shortens_a_long_name_in_its_error() {
    let server = TestServer::start().await;
    let symbol = MessageRequest::FileContainingSymbol("→".repeat(1_000));
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(symbol) };
    for path in [REFLECTION, OLD_REFLECTION] {
        let answer = send(&server.address(), path, &HEADERS, frame(&request.encode_to_vec())).await;
        assert_eq!(answer.status().code(), Code::NotFound, "{path}");
        assert!(answer.status().message().contains('…'), "{}", answer.status().message());
        assert!(answer.header_bytes() < 8 * 1024, "{path}: {}", answer.header_bytes());
    }
}
