//! This module measures the calls of a well-behaved client, and the server's memory, while other clients misbehave.

pub mod raw;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use prost::Message;
use prost::bytes::Bytes;
use runhub_api::v1;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use self::raw::{DEFAULT_WINDOW, RawCall, RawConnection};
use crate::Error;
use crate::bench::Bench;
use crate::own_server::OwnServer;
use crate::row::{Row, Target};
use crate::sample::Sample;

/// Target: the maximum p99 of the latencies of the well-behaved client's calls, in milliseconds.
const MAX_MILLIS: f64 = 250.0;
/// Target: the maximum resident memory of the server, in MiB.
const MAX_MIB: f64 = 512.0;

/// Pause between two calls of the well-behaved client.
const PAUSE: Duration = Duration::from_millis(2);
/// Number of tasks of the run with a large snapshot, and the size of the objective of each task. The snapshot has 14
/// MB.
const LARGE_TASKS: usize = 224;
const OBJECTIVE_BYTES: usize = 62_000;

const IDLE_SOCKETS: usize = 10_000;
const CALLS_WITHOUT_REQUEST: usize = 520;
const UNREAD_SNAPSHOTS: usize = 200;
const UNREAD_STREAMS: usize = 100;
const UNFINISHED_REQUESTS: usize = 322;
/// Size of an unfinished request, in bytes: 3.9 MiB.
const UNFINISHED_BYTES: usize = 4_089_446;

/// The behaviour of the other clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abuse {
    Pings,
    Settings,
    IdleSockets,
    CallsWithoutRequest,
    UnreadSnapshots,
    UnreadStreams,
    UnfinishedRequests,
}

impl Abuse {
    const ALL: [Self; 7] = [
        Self::Pings,
        Self::Settings,
        Self::IdleSockets,
        Self::CallsWithoutRequest,
        Self::UnreadSnapshots,
        Self::UnreadStreams,
        Self::UnfinishedRequests,
    ];

    fn describe(self) -> String {
        match self {
            Self::Pings => "2 connections that send pings without pause".to_owned(),
            Self::Settings => "2 connections that send settings without pause".to_owned(),
            Self::IdleSockets => format!("{IDLE_SOCKETS} idle and half-started connections"),
            Self::CallsWithoutRequest => format!("{CALLS_WITHOUT_REQUEST} calls that send no request"),
            Self::UnreadSnapshots => format!("{UNREAD_SNAPSHOTS} unread snapshots of 14 MB"),
            Self::UnreadStreams => format!("{UNREAD_STREAMS} unread streams that start with a snapshot of 14 MB"),
            Self::UnfinishedRequests => format!("{UNFINISHED_REQUESTS} unfinished heartbeats of 3.9 MiB"),
        }
    }

    /// Returns whether the bench also measures the server's memory.
    fn measures_memory(self) -> bool {
        matches!(self, Self::UnreadSnapshots | Self::UnreadStreams | Self::UnfinishedRequests)
    }
}

/// Measures calls and memory during each abuse, and returns the result rows. Fails if a server can't be started or a
/// call of the well-behaved client fails.
pub async fn measure_abuse(bench: &Bench) -> Result<Vec<Row>, Error> {
    bench.start_progress("abuse", Abuse::ALL.len());
    let mut rows = Vec::new();
    for abuse in Abuse::ALL {
        let server = bench.start_server()?;
        let bench = bench.connect_to_server(&server.url).await?;
        rows.extend(measure_one(&bench, &server, abuse).await?);
        bench.advance(1);
    }
    Ok(rows)
}

async fn measure_one(bench: &Bench, server: &OwnServer, abuse: Abuse) -> Result<Vec<Row>, Error> {
    let run_id = bench.create_run().await?;
    if abuse.measures_memory() {
        add_large_tasks(bench, &run_id).await?;
    }
    let victim = Victim::new(&server.url);
    let mut abusers = JoinSet::new();
    start_abuse(&mut abusers, abuse, &victim, &run_id);
    let times = call_get_run(bench, &run_id, bench.abuse_time(abuse.measures_memory())).await?;
    victim.check_was_abused(abuse)?;
    let name = format!("GetRun, beside {}", abuse.describe());
    let mut rows = vec![Row::p99(name, &times).with_target(Target::AtMost(MAX_MILLIS))];
    if abuse.measures_memory() {
        let name = format!("peak resident memory, with {}", abuse.describe());
        let row = server.peak_mib().map(|mib| Row::new(name, "MiB", mib).with_target(Target::AtMost(MAX_MIB)));
        rows.extend(row);
    }
    abusers.shutdown().await;
    Ok(rows)
}

/// Adds the tasks of a run whose snapshot has 14 MB. Fails if a call fails.
async fn add_large_tasks(bench: &Bench, run_id: &str) -> Result<(), Error> {
    let objective = "x".repeat(OBJECTIVE_BYTES);
    let draft = v1::TaskDraft { title: "large".to_owned(), objective, ..Default::default() };
    for _ in 0..LARGE_TASKS / 32 {
        let request =
            v1::AddTasksRequest { run_id: run_id.to_owned(), tasks: vec![draft.clone(); 32], ..Default::default() };
        bench.client.add_tasks(request).await?;
    }
    Ok(())
}

/// Calls GetRun repeatedly for the time `duration` and returns the latencies. Fails if a call fails.
async fn call_get_run(bench: &Bench, run_id: &str, duration: Duration) -> Result<Sample, Error> {
    let mut times = Sample::new()?;
    let started = Instant::now();
    while started.elapsed() < duration {
        let called = Instant::now();
        bench.client.get_run(v1::GetRunRequest { run_id: run_id.to_owned() }).await?;
        times.record(called.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(times)
}

/// The server that the clients misuse.
#[derive(Clone)]
struct Victim {
    address: String,
    /// Number of times that a client has done what it wanted to do, for example left a response unread.
    successes: Arc<AtomicUsize>,
}

impl Victim {
    fn new(url: &str) -> Self {
        Self { address: url.trim_start_matches("http://").to_owned(), successes: Arc::default() }
    }

    async fn connect(&self) -> io::Result<RawConnection> {
        RawConnection::connect(&self.address, DEFAULT_WINDOW).await
    }

    fn record_success(&self) {
        self.successes.fetch_add(1, Relaxed);
    }

    /// Fails if no client was able to misuse the server, because the measured times would then mean nothing.
    fn check_was_abused(&self, abuse: Abuse) -> Result<(), Error> {
        if self.successes.load(Relaxed) > 0 {
            return Ok(());
        }
        Err(Error::NoAbuse { abuse: abuse.describe() })
    }
}

/// Starts the misbehaving clients. Their errors are ignored, because the server may refuse and disconnect them.
fn start_abuse(abusers: &mut JoinSet<io::Result<()>>, abuse: Abuse, victim: &Victim, run_id: &str) {
    match abuse {
        Abuse::Pings => start_floods(abusers, victim, &raw::PING),
        Abuse::Settings => start_floods(abusers, victim, &raw::SETTINGS),
        Abuse::IdleSockets => drop(abusers.spawn(open_sockets(victim.clone()))),
        Abuse::CallsWithoutRequest => drop(abusers.spawn(start_calls_without_request(victim.clone()))),
        Abuse::UnreadSnapshots => {
            let request = v1::GetRunSnapshotRequest { run_id: run_id.to_owned(), ..Default::default() };
            let message = request.encode_to_vec();
            for _ in 0..UNREAD_SNAPSHOTS {
                let path = "/runhub.v1.RunService/GetRunSnapshot";
                abusers.spawn(leave_unread(victim.clone(), path, message.clone()));
            }
        }
        Abuse::UnreadStreams => {
            let start = v1::SubscribeStart::FromSnapshot.into();
            let request = v1::SubscribeEventsRequest { run_id: run_id.to_owned(), start, ..Default::default() };
            let message = request.encode_to_vec();
            for _ in 0..UNREAD_STREAMS {
                let path = "/runhub.v1.EventService/SubscribeEvents";
                abusers.spawn(leave_unread(victim.clone(), path, message.clone()));
            }
        }
        Abuse::UnfinishedRequests => {
            let mut request = raw::encode_prefix(UNFINISHED_BYTES);
            request.resize(UNFINISHED_BYTES + 4, 0);
            let request = Bytes::from(request);
            for _ in 0..UNFINISHED_REQUESTS {
                abusers.spawn(send_unfinished(victim.clone(), request.clone()));
            }
        }
    }
}

fn start_floods(abusers: &mut JoinSet<io::Result<()>>, victim: &Victim, frame: &'static [u8]) {
    for _ in 0..2 {
        let victim = victim.clone();
        abusers.spawn(async move {
            loop {
                // The server closes the connection after a number of frames.
                let _ = raw::flood(&victim.address, frame, || victim.record_success()).await;
            }
        });
    }
}

/// Opens connections, sends nothing or half of an HTTP/2 preface on each, and keeps the connections open.
async fn open_sockets(victim: Victim) -> io::Result<()> {
    let mut sockets = Vec::new();
    for number in 0..IDLE_SOCKETS {
        // The system may have no further file descriptors for this process.
        let Ok(mut socket) = TcpStream::connect(&victim.address).await else { break };
        if number % 2 == 0 {
            let (half, _) = raw::PREFACE.split_at(raw::PREFACE.len() / 2);
            socket.write_all(half).await?;
        }
        sockets.push(socket);
        victim.record_success();
    }
    std::future::pending().await
}

async fn start_calls_without_request(victim: Victim) -> io::Result<()> {
    let mut connection = victim.connect().await?;
    let mut calls: Vec<RawCall> = Vec::new();
    for _ in 0..CALLS_WITHOUT_REQUEST {
        calls.push(connection.start_call("/runhub.v1.EventService/AppendEvents", None).await?);
    }
    victim.record_success();
    std::future::pending().await
}

/// Makes a call on a new connection and does not read the response. Repeats the call if the server refuses or resets
/// the call.
async fn leave_unread(victim: Victim, path: &'static str, message: Vec<u8>) -> io::Result<()> {
    loop {
        let mut connection = victim.connect().await?;
        let call = connection.call(path, &message).await?;
        let mut body = match call.response.await {
            Ok(response) if !response.headers().contains_key("grpc-status") => response.into_body(),
            _ => {
                tokio::time::sleep(100 * PAUSE).await;
                continue;
            }
        };
        victim.record_success();
        // h2 confirms read bytes to the server only if `release_capacity` is called.
        while body.data().await.is_some_and(|bytes| bytes.is_ok()) {}
    }
}

/// Sends `request`, which is a heartbeat without its last byte, on a new connection. Repeats the call if the server
/// refuses or ends the call.
async fn send_unfinished(victim: Victim, request: Bytes) -> io::Result<()> {
    loop {
        let mut connection = victim.connect().await?;
        let RawCall { mut response, request: mut to } =
            connection.start_call("/runhub.v1.TaskService/Heartbeat", None).await?;
        // The response arrives early if the server refuses the request.
        tokio::select! {
            sent = to.send(request.clone(), false) => sent?,
            _ = &mut response => continue,
        }
        victim.record_success();
        // Ignore the response, which is a refusal after the server's timeout.
        let _ = response.await;
    }
}
