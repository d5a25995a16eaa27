//! `kill -9` under load, with steps of the clock and a full disk: every acknowledged write is there, the log has no gap,
//! and no lease expires.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runhub_client::Client;
use runhub_client::v1::*;
use tokio::task::JoinHandle;

use crate::support::binary::Binary;
use crate::support::calls::*;
use crate::support::dump::integrity;
use crate::support::faults::{Faults, KEEP_REQUESTS_FOR, Refusals};
use crate::support::random::Random;

const CYCLES: usize = 20;
const WRITERS: usize = 4;
/// Duration in seconds of the lease that its holder extends after each restart.
const LEASE: i64 = 60;

/// The seq and the position of each acknowledged kind.
type Acknowledged = BTreeMap<String, (i64, i64)>;

/// The answers that a writer got before its server was killed.
struct Report {
    acknowledged: Acknowledged,
    /// The request without an answer. It may or may not have been committed.
    unanswered: AppendEventsRequest,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Faults::new(folder.path());
    let mut random = Random::new(6);
    let refusals = Arc::new(Refusals::default());
    let mut server = faults.start_with(&["--keep-requests-for", KEEP_REQUESTS_FOR]);
    let run_id = new_run(&server.connect().await).await.id;
    let held = hold_lease(&server.connect().await).await;
    let mut acknowledged = Acknowledged::new();
    let mut completed = Vec::new();
    for cycle in 0..CYCLES {
        let load = Load::start(&server, &run_id, cycle, &refusals).await;
        disturb(&mut faults, &server, &mut random, &refusals).await;
        // Kill the server a little later in each cycle.
        while load.acks.load(Ordering::SeqCst) < 40 + 13 * cycle {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if random.percent(25) {
            // The disk is full when the server is killed.
            faults.fill_disk(&mut random);
            tokio::time::sleep(Duration::from_millis(random.below(50) as u64)).await;
        }
        server.kill();
        faults.free_disk();
        let unanswered = load.end(&mut acknowledged, &mut completed).await;
        assert_eq!(integrity(&faults.db()), "ok");
        if random.percent(50) {
            faults.step_clock_at_random(&mut random);
        }
        server = faults.start_with(&["--keep-requests-for", KEEP_REQUESTS_FOR]);
        let client = server.connect().await;
        extend_lease(&client, &held).await;
        // Repeated with its request_id, an unanswered request takes effect once, whether it was committed or not.
        for request in unanswered {
            let kind = request.events[0].kind.clone();
            let answer = client.append_events(request).await.unwrap();
            acknowledged.insert(kind, (answer.first_seq, answer.last_position));
        }
        check(&client, &run_id, &acknowledged, &completed).await;
    }
    faults.assert_no_reported_loss();
    assert!(acknowledged.len() > CYCLES * 40, "too few acknowledged events: {}", acknowledged.len());
    assert!(completed.len() > CYCLES, "too few completed tasks: {}", completed.len());
    assert!(refusals.count() > CYCLES, "the disk was full too rarely: {} refusals", refusals.count());
}

/// The clients of one cycle.
struct Load {
    writers: Vec<JoinHandle<Report>>,
    worker: JoinHandle<Vec<String>>,
    /// Number of acknowledged changes.
    acks: Arc<AtomicUsize>,
}

impl Load {
    async fn start(server: &Binary, run_id: &str, cycle: usize, refusals: &Arc<Refusals>) -> Self {
        let acks = Arc::new(AtomicUsize::new(0));
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let name = format!("{cycle}.{writer}");
            let client = server.connect().await;
            writers.push(write(client, run_id.to_owned(), name, Arc::clone(&acks), Arc::clone(refusals)));
        }
        let worker = work(server.connect().await, run_id.to_owned(), Arc::clone(&acks), Arc::clone(refusals));
        Self { writers, worker, acks }
    }

    /// Waits until all clients have noticed that the server was killed. Adds what was acknowledged, and returns the
    /// requests without an answer.
    async fn end(self, acknowledged: &mut Acknowledged, completed: &mut Vec<String>) -> Vec<AppendEventsRequest> {
        let mut unanswered = Vec::new();
        for writer in self.writers {
            let report = writer.await.unwrap();
            acknowledged.extend(report.acknowledged);
            unanswered.push(report.unanswered);
        }
        completed.extend(self.worker.await.unwrap());
        unanswered
    }
}

/// Steps the clock, or fills the disk for a while, or does nothing.
async fn disturb(faults: &mut Faults, server: &Binary, random: &mut Random, refusals: &Refusals) {
    match random.below(3) {
        0 => faults.step_clock_and_wait(random).await,
        1 => faults.fill_disk_and_wait(&server.connect().await, random, refusals).await,
        _ => {}
    }
}

/// Claims the task of a run of its own.
async fn hold_lease(client: &Client) -> Claim {
    let run_id = new_run(client).await.id;
    add_task(client, &run_id, draft("held")).await;
    claim_for(client, &run_id, "holder", LEASE).await.unwrap()
}

/// Extends the lease. Fails if the lease has ever expired, or lasts longer than its duration.
async fn extend_lease(client: &Client, held: &Claim) {
    assert_eq!(beat(client, held).await.state(), LeaseState::Extended);
    let task = get_task(client, &task_id(held)).await;
    let now = client.get_server_info(GetServerInfoRequest {}).await.unwrap().server_time.unwrap();
    let remaining = task.lease_expire_time.unwrap().seconds - now.seconds;
    assert!((1..=LEASE + 1).contains(&remaining), "the lease lasts another {remaining} s");
    assert!(!kinds(client, &task.run_id).await.contains(&"lease_expired".to_owned()));
}

/// Appends events one by one until the server is killed.
fn write(
    client: Client,
    run_id: String,
    name: String,
    acks: Arc<AtomicUsize>,
    refusals: Arc<Refusals>,
) -> JoinHandle<Report> {
    tokio::spawn(async move {
        let mut acknowledged = Acknowledged::new();
        for at in 0.. {
            let kind = format!("{name}.{at}");
            let events = vec![event(&kind)];
            let request = AppendEventsRequest { run_id: run_id.clone(), events, request_id: kind.clone() };
            match refusals.retry(|| client.append_events(request.clone())).await {
                Ok(answer) => acknowledged.insert(kind, (answer.first_seq, answer.last_position)),
                Err(_) => return Report { acknowledged, unanswered: request },
            };
            acks.fetch_add(1, Ordering::SeqCst);
        }
        unreachable!()
    })
}

/// Adds, claims and completes tasks until the server is killed. Returns the acknowledged completions.
fn work(client: Client, run_id: String, acks: Arc<AtomicUsize>, refusals: Arc<Refusals>) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut completed = Vec::new();
        while let Ok(task) = one_task(&client, &run_id, &refusals).await {
            completed.push(task);
            acks.fetch_add(1, Ordering::SeqCst);
        }
        completed
    })
}

async fn one_task(client: &Client, run_id: &str, refusals: &Refusals) -> Result<String, runhub_client::Error> {
    let request = AddTasksRequest { run_id: run_id.into(), tasks: vec![draft("t")], ..unset() };
    refusals.retry(|| client.add_tasks(request.clone())).await?;
    let request = claim_request(run_id, "agent");
    let claim = refusals.retry(|| client.claim_task(request.clone())).await?.claim.unwrap();
    let request = completion(&claim);
    Ok(refusals.retry(|| client.complete_task(request.clone())).await?.task.unwrap().id)
}

async fn check(client: &Client, run_id: &str, acknowledged: &Acknowledged, completed: &[String]) {
    let log = log(client, run_id).await;
    let seqs: Vec<i64> = log.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=log.len() as i64).collect::<Vec<_>>(), "seq has a gap");
    assert!(log.windows(2).all(|pair| pair[0].position < pair[1].position));
    let own = log.iter().filter(|event| event.source == "test");
    let own: Vec<_> = own.map(|event| (event.kind.clone(), (event.seq, event.position))).collect();
    assert_eq!(own.len(), acknowledged.len(), "each event must be logged once");
    assert_eq!(own.into_iter().collect::<Acknowledged>(), *acknowledged);
    let logged: Vec<&str> = log
        .iter()
        .filter(|event| event.kind == "task_completed")
        .filter_map(|event| event.task_id.as_deref())
        .collect();
    for task in completed {
        assert!(logged.contains(&task.as_str()), "{task} was acknowledged as completed");
        assert_eq!(get_task(client, task).await.status(), TaskStatus::Completed);
    }
}
