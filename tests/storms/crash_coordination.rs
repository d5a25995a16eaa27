//! `kill -9` during coordination: no agent loses a lease to it, and none gets two.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use runhub_client::v1::*;
use runhub_client::{Client, Error};

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::random::Random;

const CYCLES: usize = 10;
const AGENTS: usize = 16;

/// camunda's lost answer across a crash: each request_id has one lease, whether its claim was committed or not.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_claim_returns_the_same_lease_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let mut random = Random::new(3);
    let mut lost = 0;
    let mut answered = 0;
    let mut committed = 0;
    let mut server = Binary::start(&db, &[]);
    for cycle in 0..CYCLES {
        let client = server.connect().await;
        let run_id = new_run(&client).await.id;
        let approval = request_approval(&client, &run_id, "digest").await;
        let mut agents = Vec::new();
        for agent in 0..AGENTS {
            agents.push((server.connect().await, request(&run_id, cycle, agent)));
        }
        let calls: Vec<_> =
            agents.into_iter().map(|(client, request)| tokio::spawn(try_claim(client, request))).collect();
        // The claims wait, or are about to. Add tasks, and kill the server at a random moment after that.
        add_tasks(&client, &run_id, vec![draft("t"); AGENTS]).await;
        tokio::time::sleep(Duration::from_micros(random.below(3_000) as u64)).await;
        server.kill();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap());
        }
        committed += claims_in(&db, &run_id) - answers.iter().filter(|(_, claim)| claim.is_some()).count();
        server = Binary::start(&db, &[]);
        let client = server.connect().await;
        let mut claimed = BTreeSet::new();
        for (request, before) in answers {
            let claim = client.claim_task(request).await.unwrap().claim.expect("a task for each");
            lost += usize::from(before.is_none());
            if let Some(before) = before {
                answered += 1;
                assert_eq!(claim, before, "the repeated claim must return the first answer");
            }
            assert_eq!(claim.attempt_number, 1, "no claim may be lost");
            assert!(claimed.insert(task_id(&claim)), "a task was claimed twice");
            assert_eq!(beat(&client, &claim).await.state(), LeaseState::Extended);
        }
        assert_eq!(get_approval(&client, &approval.id).await, approval, "a restart loses no approval");
    }
    println!(
        "{answered} claims were answered before their server was killed, {lost} not, {committed} of them committed"
    );
    assert!(answered > 0 && committed > 0, "{answered} answered, {committed} committed and not answered");
}

/// Returns how many claims the database file of the killed server holds.
fn claims_in(db: &Path, run_id: &str) -> usize {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = rusqlite::Connection::open_with_flags(db, flags).unwrap();
    let sql = "SELECT COUNT(*) FROM tasks t JOIN runs r ON r.key = t.run_key WHERE r.id = $1 AND t.status = 2";
    let count: i64 = conn.query_row(sql, [run_id], |row| row.get(0)).unwrap();
    usize::try_from(count).unwrap()
}

fn request(run_id: &str, cycle: usize, agent: usize) -> ClaimTaskRequest {
    let request_id = format!("{cycle}.{agent}");
    ClaimTaskRequest { wait: seconds(60), request_id, ..claim_request(run_id, &format!("agent {agent}")) }
}

/// Sends the claim. Returns the request, and the claim if an answer came.
async fn try_claim(client: Client, request: ClaimTaskRequest) -> (ClaimTaskRequest, Option<Claim>) {
    let answer: Result<_, Error> = client.claim_task(request.clone()).await;
    (request, answer.ok().and_then(|answer| answer.claim))
}
