//! Many clients at once.

use std::collections::BTreeSet;

use runhub_client::v1::*;

use crate::support::TestServer;
use crate::support::calls::*;

const CLIENTS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_clients_claim_each_of_1000_tasks_once() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    add_tasks(&server.client, &run.id, vec![draft("t"); 1_000]).await;
    let mut agents = Vec::new();
    for number in 0..CLIENTS {
        let client = server.connect().await;
        let request = claim_request(&run.id, &format!("agent {number}"));
        agents.push(tokio::spawn(async move {
            let mut claimed = Vec::new();
            while let Some(claim) = client.claim_task(request.clone()).await.unwrap().claim {
                claimed.push((task_id(&claim), claim.lease_token));
            }
            claimed
        }));
    }
    let mut claims = Vec::new();
    for agent in agents {
        claims.extend(agent.await.unwrap());
    }
    assert_eq!(claims.len(), 1_000);
    assert_eq!(claims.iter().map(|(task, _)| task).collect::<BTreeSet<_>>().len(), 1_000, "a task was claimed twice");
    assert_eq!(claims.iter().map(|(_, token)| token).collect::<BTreeSet<_>>().len(), 1_000, "a token was issued twice");
    let claimed = kinds(&server.client, &run.id).await.into_iter().filter(|kind| kind == "task_claimed");
    assert_eq!(claimed.count(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_leave_no_gap_in_one_run() {
    const EACH: usize = 50;
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let mut writers = Vec::new();
    for number in 0..CLIENTS {
        let client = server.connect().await;
        let run_id = run.id.clone();
        writers.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            for at in 0..EACH {
                let kind = format!("{number}.{at}");
                let answer = append(&client, &run_id, vec![event(&kind)]).await;
                answers.push((answer.first_seq, answer.last_position, kind));
            }
            answers
        }));
    }
    let mut answers = Vec::new();
    for writer in writers {
        let own = writer.await.unwrap();
        assert!(own.windows(2).all(|pair| pair[0].0 < pair[1].0), "a writer's own events must keep their order");
        answers.extend(own);
    }
    answers.sort();
    let log = log(&server.client, &run.id).await;
    let seqs: Vec<i64> = log.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=(CLIENTS * EACH) as i64 + 1).collect::<Vec<_>>());
    let logged: Vec<_> = log.into_iter().skip(1).map(|event| (event.seq, event.position, event.kind)).collect();
    assert_eq!(logged, answers);
}

/// Reads pages while the log grows: each event comes once, and none is left out.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_growing_log_have_no_gap_and_no_duplicate() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let mut writers = Vec::new();
    for _ in 0..8 {
        let client = server.connect().await;
        let run_id = run.id.clone();
        writers.push(tokio::spawn(async move {
            for _ in 0..300 {
                append(&client, &run_id, vec![event("x")]).await;
            }
        }));
    }
    let mut seqs = Vec::new();
    let mut after = 0;
    while seqs.len() < 8 * 300 + 1 {
        let request = ListEventsRequest { run_id: run.id.clone(), after_position: Some(after), ..unset() };
        let page = server.client.list_events(request).await.unwrap();
        assert!(page.events.iter().all(|event| event.position > after && event.position <= page.next_position));
        after = page.next_position;
        seqs.extend(page.events.iter().map(|event| event.seq));
    }
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Two processes of the class RunStore lost each other's updates. Here every increment counts.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_increments_are_all_counted() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let mut callers = Vec::new();
    for _ in 0..CLIENTS {
        let client = server.connect().await;
        let run_id = run.id.clone();
        callers.push(tokio::spawn(async move {
            for _ in 0..10 {
                let request = IncrementCycleRequest { run_id: run_id.clone(), ..unset() };
                client.increment_cycle(request).await.unwrap();
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let run = get_run(&server.client, &run.id).await;
    assert_eq!((run.cycle_count, run.revision), (640, 641));
}
