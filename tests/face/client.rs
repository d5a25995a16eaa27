//! The Rust client: connecting, errors, and when a subscription ends.

use runhub_client::v1::*;
use runhub_client::{Client, Error, Reason, Update};

use crate::support::breaking_proxy::BreakingProxy;
use crate::support::calls::*;
use crate::support::{TestServer, soon};

#[tokio::test]
async fn short_address_works_and_invalid_address_is_explained() {
    let server = TestServer::start().await;
    let short = server.url.strip_prefix("http://").unwrap();
    new_run(&Client::connect(short).await.unwrap()).await;
    for wrong in ["not an address", "localhost", "https://localhost:1", "http://localhost:1/x", "unix:", ""] {
        assert!(matches!(Client::connect(wrong).await, Err(Error::Address(_))), "{wrong}");
    }
    for nowhere in ["127.0.0.1:1", "unix:/nowhere"] {
        let refused = Client::connect(nowhere).await.unwrap_err();
        assert!(matches!(refused, Error::Unreachable(_)), "{nowhere}: {refused:?}");
        assert!(!refused.to_string().ends_with("transport error"), "{refused}");
    }
    // With a lazy connection, the first call reports that nothing listens.
    let lazy = Client::connect_lazy("127.0.0.1:1").unwrap().without_retry();
    assert!(lazy.get_server_info(GetServerInfoRequest {}).await.unwrap_err().is_temporary());
}

#[tokio::test]
async fn refusal_carries_reason_code_and_fields() {
    let server = TestServer::start().await;
    let refused = server.client.create_run(CreateRunRequest::default()).await.unwrap_err();
    let Error::Refused { reason, code, fields, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((reason, *code), (&Reason::InvalidField, tonic::Code::InvalidArgument));
    assert_eq!(fields[0], ("goal".to_owned(), "the value must not be blank".to_owned()));
    assert!(!refused.is_temporary());
    assert_eq!(refused.to_string(), "INVALID_FIELD: goal: the value must not be blank");
}

#[tokio::test]
async fn subscription_ends_after_a_refusal() {
    let server = TestServer::start().await;
    let mut nowhere = server.client.subscribe(SubscribeEventsRequest { run_id: "nope".into(), ..unset() });
    assert_eq!(reason(nowhere.next().await.unwrap()), Reason::RunNotFound);
    assert!(nowhere.next().await.is_none());
}

#[tokio::test]
async fn subscription_can_be_used_as_a_stream() {
    use tokio_stream::StreamExt;
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    append(&server.client, &run.id, vec![event("x")]).await;
    set_status(&server.client, &run.id, RunStatus::Completed).await;
    let request = SubscribeEventsRequest { run_id: run.id, ..unset() };
    let updates: Vec<Update> = server.client.subscribe(request).into_stream().map(Result::unwrap).collect().await;
    assert_eq!(updates.len(), 5);
    assert!(matches!(updates[3], Update::CaughtUp(_)) && matches!(updates[4], Update::End(EndReason::RunEnded, _)));
}

#[tokio::test]
async fn calls_have_one_effect_and_a_subscription_no_gap_behind_a_proxy_that_breaks_them() {
    let server = TestServer::start().await;
    let proxy = BreakingProxy::start(&server.url).await;
    let client = Client::connect(&proxy.address).await.unwrap();
    let run = new_run(&client).await;
    let start = SubscribeStart::FromBeginning.into();
    let mut updates = client.subscribe(SubscribeEventsRequest { run_id: run.id.clone(), start, ..unset() });
    let mut received = Vec::new();
    for kind in ["step_1", "step_2", "step_3", "step_4", "step_5"] {
        append(&client, &run.id, vec![event(kind)]).await;
        while received.last().is_none_or(|last| last != kind) {
            let Update::Event(event) = updates.next().await.unwrap().unwrap() else { continue };
            received.push(event.kind);
        }
    }
    assert_eq!(received, ["run_created", "step_1", "step_2", "step_3", "step_4", "step_5"]);
    assert_eq!(kinds(&server.client, &run.id).await, received);
    assert!(proxy.resets() >= 2, "{} resets", proxy.resets());
}

/// A single flow-control window for all streams of a connection would fill up with the unread events.
#[tokio::test(flavor = "multi_thread")]
async fn unread_streams_do_not_block_calls_on_their_connection() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let payload = value(serde_json::json!("x".repeat(500_000)));
    for _ in 0..10 {
        append(&server.client, &run.id, vec![EventDraft { payload: payload.clone(), ..event("large") }]).await;
    }
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut subscription = server.client.subscribe(SubscribeEventsRequest { run_id: run.id.clone(), ..unset() });
        assert!(matches!(soon(subscription.next()).await, Some(Ok(Update::Event(_)))));
        unread.push(subscription);
    }
    let list = ListEventsRequest { run_id: run.id, limit: 1, ..unset() };
    for _ in 0..20 {
        soon(server.client.list_events(list.clone())).await.unwrap();
    }
}

/// More streams and waiting calls than the server allows on one connection (1,024).
const HELD: usize = 1_100;

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_beside_more_streams_than_one_connection_allows() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let client = server.connect().await;
    let mut streams = Vec::new();
    for _ in 0..HELD {
        let mut stream = client.subscribe(SubscribeEventsRequest { run_id: run.id.clone(), ..unset() });
        soon(stream.next()).await.unwrap().unwrap();
        streams.push(stream);
    }
    soon(get_run(&client, &run.id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_beside_more_waiting_calls_than_one_connection_allows() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let client = server.connect().await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..HELD {
        let client = client.clone();
        let request = ClaimTaskRequest { wait: seconds(200), ..claim_request(&run.id, "agent") };
        waiting.spawn(async move { client.claim_task(request).await });
    }
    server.until_claims_wait(HELD).await;
    soon(get_run(&client, &run.id)).await;
}
