//! The stored answer to a call with a request_id does not contain a JSON value that the row of the resource contains.

use runhub_client::Error;
use runhub_client::v1::*;

use super::*;

const SIZE: usize = 1_000_000;

fn large() -> Option<prost_types::Value> {
    value(serde_json::json!("x".repeat(SIZE)))
}

/// Returns the total size of all stored answers.
fn stored_bytes(server: &TestServer) -> usize {
    let sizes = server.db().query("SELECT length(answer) FROM requests");
    sizes.into_iter().map(|row| row[0].as_ref().unwrap().parse::<usize>().unwrap()).sum()
}

/// Sends a request twice. Both answers must be equal.
async fn twice<P: PartialEq + std::fmt::Debug>(call: impl AsyncFn() -> Result<P, Error>) -> P {
    let first = call().await.unwrap();
    assert!(call().await.unwrap() == first, "a repeated request must get the first answer");
    first
}

#[tokio::test]
async fn value_that_the_database_contains_is_not_stored_with_the_answer() {
    let server = TestServer::start().await;
    let client = &server.client;
    let run_id = new_run(client).await.id;
    let request_id = String::from("id");
    let checkpoint = CreateCheckpointRequest {
        run_id: run_id.clone(),
        status: RunStatus::Running.into(),
        payload: large(),
        request_id: request_id.clone(),
    };
    let answer = twice(async || client.create_checkpoint(checkpoint.clone()).await).await;
    assert_eq!(answer.checkpoint.unwrap().payload, large());
    let artifact = CreateArtifactRequest {
        run_id: run_id.clone(),
        kind: "log".into(),
        path: "a.log".into(),
        metadata: large(),
        request_id: request_id.clone(),
        ..unset()
    };
    let answer = twice(async || client.create_artifact(artifact.clone()).await).await;
    assert_eq!(answer.artifact.unwrap().metadata, large());
    let request = RequestApprovalRequest {
        run_id: run_id.clone(),
        title: "Deploy?".into(),
        payload: large(),
        request_id: request_id.clone(),
        ..unset()
    };
    let approval = twice(async || client.request_approval(request.clone()).await).await.approval.unwrap();
    let decision = DecideApprovalRequest {
        approval_id: approval.id,
        source: "ann".into(),
        verdict: ApprovalVerdict::Approved.into(),
        request_id,
        ..unset()
    };
    let answer = twice(async || client.decide_approval(decision.clone()).await).await;
    assert_eq!(answer.approval.unwrap().payload, large());
    let stored = stored_bytes(&server);
    assert!(stored < 10_000, "{stored} bytes are stored for four answers");

    set_status(client, &run_id, RunStatus::Completed).await;
    client.delete_run(DeleteRunRequest { run_id, ..unset() }).await.unwrap();
    assert_eq!(reason(client.create_checkpoint(checkpoint).await), Reason::RunNotFound);
    assert_eq!(reason(client.decide_approval(decision).await), Reason::RunNotFound);
}
