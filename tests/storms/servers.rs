//! Several servers on one database.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use runhub_client::v1::*;
use runhub_client::{Client, Update};
use tempfile::TempDir;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::database::TestDatabase;
use crate::support::record::Recorder;
use crate::support::{channel, print_figures, soon, until};

/// Starts servers on one new database, and connects to each.
async fn start(count: usize) -> (TempDir, Vec<Binary>, Vec<Client>) {
    let folder = tempfile::tempdir().unwrap();
    let servers: Vec<Binary> = (0..count).map(|_| Binary::start_in(folder.path(), &[])).collect();
    let clients = join_all(servers.iter().map(Binary::connect)).await;
    (folder, servers, clients)
}

/// Returns the living servers, in the order in which they started.
async fn list(client: &Client) -> Vec<Server> {
    client.list_servers(ListServersRequest {}).await.unwrap().servers
}

/// Returns the index of the sweeper.
async fn sweeper(client: &Client) -> Option<usize> {
    list(client).await.iter().position(|server| server.is_sweeper)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_answers_any_call_at_once() {
    let (_folder, _servers, clients) = start(2).await;
    let [one, other] = [&clients[0], &clients[1]];
    for _ in 0..50 {
        // A write that one server has acknowledged is visible on the other at once, also to a claim that found nothing
        // before.
        let run = new_run(one).await;
        assert!(claim(other, &run.id).await.is_none());
        let task = add_task(one, &run.id, draft("t")).await;
        let claim = claim(other, &run.id).await.expect("the task that the other server has added");
        assert_eq!(beat(one, &claim).await.state(), LeaseState::Extended);
        assert_eq!(complete(one, &claim).await.status(), TaskStatus::Completed);
        assert_eq!(get_task(other, &task.id).await.status(), TaskStatus::Completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_on_one_server_wakes_a_claim_on_another() {
    const ROUNDS: usize = 200;
    let (_folder, _servers, clients) = start(2).await;
    let [one, other] = [&clients[0], &clients[1]];
    let run = new_run(one).await;
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        let first = format!("{round} first");
        let second = format!("{round} second");
        add_tasks(one, &run.id, vec![keyed(&first, &[]), keyed(&second, &[&first])]).await;
        let held = claim(one, &run.id).await.unwrap();
        let waiting = ClaimTaskRequest { wait: seconds(60), ..claim_request(&run.id, "waiting") };
        let client = other.clone();
        let waiting = tokio::spawn(async move { (client.claim_task(waiting).await.unwrap().claim, Instant::now()) });
        // Usually, the claim waits by then. If not, it finds the task at once.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let begun = Instant::now();
        complete(one, &held).await;
        let (claim, woken) = soon(waiting).await.unwrap();
        delays.push(woken.saturating_duration_since(begun));
        complete(other, &claim.unwrap()).await;
    }
    delays.sort();
    // A server that hears of no commit looks for changes once a second.
    assert!(delays[ROUNDS / 2] < Duration::from_millis(300), "the notifications came too early, or not at all");
    print_figures(&format!(
        "woken on another server: p50 {:?}, p99 {:?}",
        delays[ROUNDS / 2],
        delays[ROUNDS * 99 / 100]
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_claims_with_one_request_id_on_two_servers_are_one() {
    let (_folder, _servers, clients) = start(2).await;
    let run = new_run(&clients[0]).await;
    for round in 0..20 {
        let claims: Vec<_> = clients
            .iter()
            .map(|client| {
                let client = client.clone();
                let request_id = format!("claim {round}");
                let request = ClaimTaskRequest { request_id, wait: seconds(60), ..claim_request(&run.id, "agent") };
                tokio::spawn(async move { client.claim_task(request).await.unwrap().claim.unwrap() })
            })
            .collect();
        // One task for each of the two calls, of which one must stay.
        add_tasks(&clients[round % 2], &run.id, vec![draft("a"), draft("b")]).await;
        let claims: Vec<Claim> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(claims[0], claims[1]);
        complete(&clients[0], &claims[0]).await;
        let rest = claim(&clients[1], &run.id).await.expect("the task that no call got");
        complete(&clients[1], &rest).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_expires_once_with_three_servers() {
    let (_folder, _servers, clients) = start(3).await;
    let run = new_run(&clients[0]).await;
    add_tasks(&clients[0], &run.id, vec![draft("t"); 20]).await;
    for number in 0..20 {
        claim_for(&clients[number % 3], &run.id, "silent", 1).await.unwrap();
    }
    until_logged(&clients[1], &run.id, "lease_expired", 20).await;
    // Give every server the time to expire a lease again.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let expired = kinds(&clients[2], &run.id).await.into_iter().filter(|kind| kind == "lease_expired").count();
    assert_eq!(expired, 20);
    assert_eq!(list(&clients[0]).await.iter().filter(|server| server.is_sweeper).count(), 1);
}

/// A sweeper that is killed is replaced within two seconds, and one that shuts down at once.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_takes_over_from_the_sweeper() {
    for is_killed in [true, false] {
        let (_folder, mut servers, clients) = start(3).await;
        let run = new_run(&clients[0]).await;
        let before = sweeper(&clients[0]).await.unwrap();
        let ended = servers.remove(before);
        let other = &clients[(before + 1) % 3];
        let id = list(other).await[before].id.clone();
        let begun = Instant::now();
        if is_killed {
            ended.kill();
        } else {
            ended.terminate();
        }
        until(|| async { list(other).await.iter().any(|server| server.is_sweeper && server.id != id) }).await;
        let taken = begun.elapsed();
        print_figures(&format!("sweeper replaced after {taken:?} (killed: {is_killed})"));
        assert!(taken < Duration::from_secs(2), "{taken:?}");
        add_task(other, &run.id, draft("t")).await;
        claim_for(other, &run.id, "silent", 1).await.unwrap();
        until_logged(other, &run.id, "lease_expired", 1).await;
    }
}

/// Rolling restarts extend no lease for ever: a lease whose holder is silent expires although servers come and go.
#[tokio::test(flavor = "multi_thread")]
async fn lease_expires_during_rolling_restarts() {
    let (folder, mut servers, clients) = start(2).await;
    let run = new_run(&clients[0]).await;
    add_task(&clients[0], &run.id, draft("t")).await;
    claim_for(&clients[0], &run.id, "silent", 2).await.unwrap();
    let begun = Instant::now();
    let mut restarts = 0;
    loop {
        let new = Binary::start_in(folder.path(), &[]);
        let old = std::mem::replace(&mut servers[restarts % 2], new);
        old.terminate();
        assert!(old.wait().await, "a server that shuts down ends with success");
        restarts += 1;
        let client = servers[restarts % 2].connect().await;
        if kinds(&client, &run.id).await.contains(&"lease_expired".to_owned()) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the lease of 2 s did not expire in {restarts} restarts");
    }
    assert!(restarts >= 2, "only {restarts} restarts: the lease must outlast some");
}

/// A server that starts reads the newest numbers while other servers assign the next ones.
#[tokio::test(flavor = "multi_thread")]
async fn start_of_a_server_under_load_disturbs_no_call() {
    const WRITERS: usize = 16;
    const STARTS: usize = 12;
    let (folder, _servers, clients) = start(1).await;
    let run = new_run(&clients[0]).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let writers = (0..WRITERS).map(|number| {
        let client = clients[0].clone();
        let run_id = run.id.clone();
        let is_over = Arc::clone(&is_over);
        tokio::spawn(async move {
            let mut appended = 0;
            while !is_over.load(Ordering::Relaxed) {
                append(&client, &run_id, vec![event(&format!("{number}.{appended}"))]).await;
                appended += 1;
            }
            appended
        })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..STARTS {
        tokio::task::block_in_place(|| Binary::start_in(folder.path(), &[])).terminate();
    }
    is_over.store(true, Ordering::Relaxed);
    let mut appended = 0;
    for writer in writers {
        appended += writer.await.unwrap();
    }
    assert!(appended > 10 * STARTS, "only {appended} appends");
    assert_eq!(log(&clients[0], &run.id).await.len(), 1 + appended);
}

/// A watcher moves from server to server with its cursor, and two other watchers stay. Nobody misses an event, or gets
/// one twice or out of order.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_of_two_servers_get_every_event_in_order() {
    const WRITERS: usize = 16;
    const EACH: usize = 100;
    let (folder, servers, clients) = start(2).await;
    let run = new_run(&clients[0]).await;
    let request = SubscribeEventsRequest { after_position: Some(0), ..unset() };
    let mut staying = Vec::new();
    for server in &servers {
        let mut recorder = Recorder::new(TestDatabase::in_folder(folder.path()), request.clone());
        let channel = channel(&format!("http://{}", server.address)).await;
        staying.push(tokio::spawn(async move {
            let mut events = 0;
            recorder.record(channel, |message| count_event(message, &mut events) == 1 + WRITERS * EACH).await;
            recorder.check();
        }));
    }
    let writers = (0..WRITERS).map(|number| {
        let client = clients[number % 2].clone();
        let run_id = run.id.clone();
        tokio::spawn(async move {
            for at in 0..EACH {
                append(&client, &run_id, vec![event(&format!("{number}.{at}"))]).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut seen = Vec::new();
    let mut cursor = Some(0);
    let mut turn = 0;
    while seen.len() < 1 + WRITERS * EACH {
        let request = SubscribeEventsRequest { after_position: cursor, ..unset() };
        let mut subscription = clients[turn % 2].subscribe(request);
        turn += 1;
        let before = seen.len();
        while seen.len() < before + 97 && seen.len() < 1 + WRITERS * EACH {
            if let Update::Event(event) = soon(subscription.next()).await.unwrap().unwrap() {
                seen.push(event.position);
            }
        }
        cursor = subscription.position();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for recorder in staying {
        soon(recorder).await.unwrap();
    }
    assert!(seen.is_sorted(), "the watcher that moves gets the events in order");
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 1 + WRITERS * EACH, "and each of them once");
    assert!(turn > 10, "the watcher moved {turn} times");
}

fn count_event(message: &subscribe_events_response::Message, events: &mut usize) -> usize {
    *events += usize::from(matches!(message, subscribe_events_response::Message::Event(_)));
    *events
}

/// The writer sends many statements before it waits for their results. If the database refuses one of them, only the call
/// of that statement fails, and all other calls of its group succeed.
#[tokio::test(flavor = "multi_thread")]
async fn call_whose_statement_the_database_refuses_fails_alone() {
    const CALLS: usize = 64;
    let (folder, _servers, clients) = start(1).await;
    let database = TestDatabase::in_folder(folder.path());
    database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.kind = 'refused' THEN RAISE EXCEPTION 'refused by the test'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse();",
    );
    let run = new_run(&clients[0]).await;
    let calls = (0..CALLS).map(|number| {
        let kind = if number == CALLS / 2 { "refused".to_owned() } else { number.to_string() };
        let request = AppendEventsRequest { run_id: run.id.clone(), events: vec![event(&kind)], ..unset() };
        let client = clients[0].clone();
        tokio::spawn(async move { (kind, client.append_events(request).await) })
    });
    for call in join_all(calls).await {
        let (kind, result) = call.unwrap();
        assert_eq!(result.is_ok(), kind != "refused", "{kind}: {result:?}");
    }
    let logged = kinds(&clients[0], &run.id).await;
    assert_eq!(logged.len(), 1 + CALLS - 1, "run_created, and each event that the database accepts, once: {logged:?}");
}
