//! Runs agents and 200 watchers against a new server for a long time, and checks that the server's memory, file
//! descriptors, WAL and database file do not grow.
//!
//! The agents create a run, work on its tasks, end the run and delete it, again and again. The watchers subscribe, some
//! of them from the snapshot of a run, read for a while, pause, and disconnect. The server keeps events and stored
//! responses for 30 s, so everything that the server stores is removed after a short time.
//!
//! Usage: cargo run --release -p runhub-bench --example soak -- PATH_OF_RUNHUB [MINUTES]

#![allow(clippy::print_stdout)] // The program prints its samples.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use runhub_client::v1::*;
use runhub_client::{Client, Reason, Update};
use tokio::sync::watch;
use tokio::task::JoinSet;

type BoxError = Box<dyn Error + Send + Sync>;

const WATCHERS: usize = 200;
const AGENTS: usize = 16;
const TASKS_PER_RUN: usize = 20;
const EVENTS_PER_TASK: usize = 10;
/// Number of tasks of the run with a large snapshot, and the size of the objective of each task. The snapshot has 2 MB.
const LARGE_TASKS: usize = 40;
const OBJECTIVE_BYTES: usize = 50_000;
/// Time for which the server keeps events and stored responses.
const RETENTION: &str = "30s";
/// Number of samples of the server's resources in each run of the program.
const SAMPLES: u32 = 40;
/// Factor by which the largest sample of the last quarter may exceed the largest sample of the second quarter. In the
/// first quarter, the server's caches and the database file grow to their size.
const ALLOWED_GROWTH: f64 = 1.15;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1);
    let program = args.next().ok_or("pass the path of the runhub binary")?;
    let minutes: f64 = args.next().map_or(Ok(20.0), |text| text.parse())?;
    let server = Server::start(Path::new(&program))?;
    let load = Arc::new(Load::new(&server).await?);
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for number in 0..AGENTS {
        tasks.spawn(Arc::clone(&load).work(number, stopped.clone()));
    }
    for number in 0..WATCHERS {
        tasks.spawn(Arc::clone(&load).watch(number, stopped.clone()));
    }
    let samples = sample(&server, &load, Duration::from_secs_f64(minutes * 60.0), &mut tasks).await?;
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    check_growth(&samples)
}

/// The load on the server, with the numbers of deleted runs, of received updates and of received snapshots.
struct Load {
    address: String,
    /// A run with a large snapshot, which is never deleted.
    large_run: String,
    runs: AtomicU64,
    updates: AtomicU64,
    snapshots: AtomicU64,
}

impl Load {
    async fn new(server: &Server) -> Result<Self, BoxError> {
        let address = server.address.clone();
        let client = Client::connect(&address).await?;
        let request =
            CreateRunRequest { goal: "large".to_owned(), repo_path: "/large".to_owned(), ..Default::default() };
        let large_run = client.create_run(request).await?.run.unwrap_or_default().id;
        let draft =
            TaskDraft { title: "task".to_owned(), objective: "x".repeat(OBJECTIVE_BYTES), ..Default::default() };
        let tasks = vec![draft; LARGE_TASKS];
        client.add_tasks(AddTasksRequest { run_id: large_run.clone(), tasks, ..Default::default() }).await?;
        Ok(Self {
            address,
            large_run,
            runs: AtomicU64::new(0),
            updates: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
        })
    }

    /// Creates, works on and deletes runs until `stopped` is true.
    async fn work(self: Arc<Self>, number: usize, stopped: watch::Receiver<bool>) -> Result<(), BoxError> {
        let client = Client::connect(&self.address).await?;
        while !*stopped.borrow() {
            self.complete_run(&client, number).await?;
            self.runs.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    async fn complete_run(&self, client: &Client, number: usize) -> Result<(), BoxError> {
        let repo_path = format!("/repository-{number}");
        let request = CreateRunRequest { goal: "soak".to_owned(), repo_path, ..Default::default() };
        let run_id = client.create_run(request).await?.run.unwrap_or_default().id;
        let allowed_paths = vec![format!("src/{number}/**")];
        let draft = TaskDraft { title: "task".to_owned(), allowed_paths, ..Default::default() };
        let tasks = vec![draft; TASKS_PER_RUN];
        client.add_tasks(AddTasksRequest { run_id: run_id.clone(), tasks, ..Default::default() }).await?;
        let agent_id = format!("agent-{number}");
        let request = ClaimTaskRequest { run_id: run_id.clone(), agent_id, ..Default::default() };
        while let Some(claim) = client.claim_task(request.clone()).await?.claim {
            work_on(client, &run_id, claim).await?;
        }
        let status = Some(RunStatus::Completed.into());
        client.update_run(UpdateRunRequest { run_id: run_id.clone(), status, ..Default::default() }).await?;
        client.delete_run(DeleteRunRequest { run_id, ..Default::default() }).await?;
        Ok(())
    }

    /// Returns the subscription of a watcher: every eighth starts from the snapshot of the large run, and all others
    /// follow all runs.
    fn subscription(&self, round: usize) -> SubscribeEventsRequest {
        if round.is_multiple_of(8) {
            let start = SubscribeStart::FromSnapshot.into();
            return SubscribeEventsRequest { run_id: self.large_run.clone(), start, ..Default::default() };
        }
        let start = if round.is_multiple_of(2) { SubscribeStart::FromNow } else { SubscribeStart::FromBeginning };
        SubscribeEventsRequest { start: start.into(), ..Default::default() }
    }

    /// Subscribes, reads for a while and disconnects, until `stopped` is true. Every third watcher pauses before it
    /// reads.
    async fn watch(self: Arc<Self>, number: usize, stopped: watch::Receiver<bool>) -> Result<(), BoxError> {
        let mut round = number;
        while !*stopped.borrow() {
            let client = Client::connect(&self.address).await?;
            let mut watcher = client.subscribe(self.subscription(round));
            let until = Instant::now() + Duration::from_millis(500 + (round * 137 % 5_000) as u64);
            if round.is_multiple_of(3) {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            while Instant::now() < until
                && let Ok(Some(update)) = tokio::time::timeout(Duration::from_secs(1), watcher.next()).await
            {
                match update {
                    Ok(Update::Event(_)) => drop(self.updates.fetch_add(1, Relaxed)),
                    Ok(Update::Snapshot(_)) => drop(self.snapshots.fetch_add(1, Relaxed)),
                    // Retention has overtaken the watcher, which subscribes again in the next round.
                    Err(error) if error.reason() == Some(&Reason::PositionCompacted) => break,
                    other => drop(other?),
                }
            }
            round += 7;
        }
        Ok(())
    }
}

/// Sends a heartbeat, appends events and completes the claimed task.
async fn work_on(client: &Client, run_id: &str, claim: Claim) -> Result<(), BoxError> {
    let beats = vec![Beat { lease_token: claim.lease_token.clone(), ..Default::default() }];
    client.heartbeat(HeartbeatRequest { beats, ..Default::default() }).await?;
    let event = EventDraft {
        source: "agent".to_owned(),
        kind: "step".to_owned(),
        message: "a step".repeat(20),
        ..Default::default()
    };
    let events = vec![event; EVENTS_PER_TASK];
    client.append_events(AppendEventsRequest { run_id: run_id.to_owned(), events, ..Default::default() }).await?;
    let task_id = claim.task.unwrap_or_default().id;
    let lease_token = Some(claim.lease_token);
    client.complete_task(CompleteTaskRequest { task_id, lease_token, ..Default::default() }).await?;
    Ok(())
}

/// A server process with a temporary database. Dropping the value kills the process.
struct Server {
    process: Child,
    address: String,
    db: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ignore the results, because the process may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(program: &Path) -> Result<Self, BoxError> {
        let folder = tempfile::tempdir()?;
        let db = folder.path().join("soak.db");
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error"]);
        command.args(["--keep-events-for", RETENTION, "--keep-requests-for", RETENTION, "--db"]).arg(&db);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        // The pipe stays open, because the server writes more to it.
        BufReader::new(process.stdout.as_mut().ok_or("the server has no standard output")?).read_line(&mut line)?;
        let address = line.split(" listens on ").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.ok_or_else(|| format!("the server printed {line:?}"))?.to_owned();
        Ok(Self { process, address, db, _folder: folder })
    }

    fn read_resources(&self) -> Result<Sample, BoxError> {
        let process = format!("/proc/{}", self.process.id());
        let status = std::fs::read_to_string(format!("{process}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("VmRSS is missing")?;
        let kib: f64 = resident.trim().trim_end_matches(" kB").parse()?;
        let size = |suffix: &str| std::fs::metadata(format!("{}{suffix}", self.db.display())).map(|file| file.len());
        Ok(Sample {
            resident_mib: kib / 1024.0,
            descriptors: std::fs::read_dir(format!("{process}/fd"))?.count() as f64,
            wal_mib: size("-wal")? as f64 / 1_048_576.0,
            file_mib: size("")? as f64 / 1_048_576.0,
        })
    }
}

/// The resources that the server uses at one time.
#[derive(Clone, Copy, Default)]
struct Sample {
    resident_mib: f64,
    descriptors: f64,
    wal_mib: f64,
    file_mib: f64,
}

impl Sample {
    fn largest(samples: &[Self]) -> Self {
        samples.iter().fold(Self::default(), |largest, sample| Self {
            resident_mib: largest.resident_mib.max(sample.resident_mib),
            descriptors: largest.descriptors.max(sample.descriptors),
            wal_mib: largest.wal_mib.max(sample.wal_mib),
            file_mib: largest.file_mib.max(sample.file_mib),
        })
    }
}

/// Prints and returns samples of the server's resources, spread over `duration`. Fails if an agent or a watcher fails,
/// or if the load stops.
async fn sample(
    server: &Server,
    load: &Load,
    duration: Duration,
    tasks: &mut JoinSet<Result<(), BoxError>>,
) -> Result<Vec<Sample>, BoxError> {
    let mut samples = Vec::new();
    println!(
        "{:>8} {:>10} {:>12} {:>10} {:>12} {:>12} {:>10} {:>10}",
        "seconds", "runs", "updates", "snapshots", "resident MiB", "descriptors", "WAL MiB", "file MiB"
    );
    let mut counts_before = [0; 3];
    let started = Instant::now();
    for number in 1..=SAMPLES {
        let next = tokio::time::Instant::from_std(started + duration * number / SAMPLES);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            Some(ended) = tasks.join_next() => {
                ended??;
                return Err("an agent or a watcher ended early".into());
            }
        }
        let sample = server.read_resources()?;
        let counts = [&load.runs, &load.updates, &load.snapshots].map(|count| count.load(Relaxed));
        if counts.iter().zip(&counts_before).any(|(count, before)| count <= before) {
            return Err("the agents delete no runs, or the watchers receive no updates or no snapshots".into());
        }
        counts_before = counts;
        let [runs, updates, snapshots] = counts;
        println!(
            "{:>8} {:>10} {:>12} {:>10} {:>12.1} {:>12} {:>10.1} {:>10.1}",
            started.elapsed().as_secs(),
            runs,
            updates,
            snapshots,
            sample.resident_mib,
            sample.descriptors,
            sample.wal_mib,
            sample.file_mib
        );
        samples.push(sample);
    }
    Ok(samples)
}

/// Compares the last quarter of the samples with the second quarter. Fails if a resource has grown.
fn check_growth(samples: &[Sample]) -> Result<(), BoxError> {
    let quarter = samples.len() / 4;
    let before = Sample::largest(&samples[quarter..2 * quarter]);
    let after = Sample::largest(&samples[3 * quarter..]);
    let mut grown = Vec::new();
    for (name, before, after) in [
        ("resident memory in MiB", before.resident_mib, after.resident_mib),
        ("file descriptors", before.descriptors, after.descriptors),
        ("WAL in MiB", before.wal_mib, after.wal_mib),
        ("database file in MiB", before.file_mib, after.file_mib),
    ] {
        println!("{name}: at most {before:.1} in the second quarter, {after:.1} in the last quarter");
        if after > before * ALLOWED_GROWTH {
            grown.push(name);
        }
    }
    if grown.is_empty() { Ok(()) } else { Err(format!("these resources have grown: {}", grown.join(", ")).into()) }
}
