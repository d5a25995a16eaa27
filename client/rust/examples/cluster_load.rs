//! Appends events through several servers until the standard input ends, and then checks that each acknowledged append is
//! in the log exactly once: `cargo run --release -p runhub-client --example cluster_load ADDRESS…`.
//!
//! Each line of the standard input starts a phase with the text of the line as its name. `examples/cluster/run` starts a
//! phase before each failure.
#![allow(clippy::print_stdout)] // An example prints.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::HumanCount;
use runhub_client::{Client, Error, repeat_for, v1::*};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Number of writers that append at the same time.
const WRITERS: usize = 16;

/// Maximum time for one append with all its retries. Then the load fails.
const LIMIT: Duration = Duration::from_secs(30);

/// Number of appends after which a writer changes to the next server, so that a restarted server gets load again.
const APPENDS_PER_SERVER: usize = 64;

/// Source of the appended events.
const SOURCE: &str = "load";

#[derive(Parser)]
struct Args {
    /// The addresses of the servers, each as http://HOST:PORT, HOST:PORT or unix:PATH
    #[arg(required = true)]
    servers: Vec<String>,
}

/// The values that all writers share.
#[derive(Clone)]
struct Load {
    servers: Vec<Client>,
    run_id: String,
    is_over: Arc<AtomicBool>,
    reports: UnboundedSender<Report>,
}

/// A message to the recorder.
enum Report {
    /// A phase with this name starts.
    Phase(String),
    /// The servers acknowledged an append after this time, which includes all retries.
    Append(Duration),
}

/// The number of appends that were acknowledged in a period, and the longest time that one of them took.
#[derive(Default)]
struct Figures {
    appends: u64,
    longest: Duration,
}

impl Figures {
    fn add(&mut self, took: Duration) {
        self.appends += 1;
        self.longest = self.longest.max(took);
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        let appends = HumanCount(self.appends).to_string();
        write!(to, "{appends:>7} appends, longest {:>5} ms", self.longest.as_millis())
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let args = Args::parse();
    let servers = args.servers.iter().map(|server| Client::connect_lazy(server)).collect::<Result<Vec<_>, _>>()?;
    let run_id = create_run(&servers[0]).await?;
    let (reports, received) = unbounded_channel();
    let recorder = tokio::spawn(record(received));
    let load = Load { servers, run_id, is_over: Arc::default(), reports };
    let writers: Vec<_> = (0..WRITERS).map(|number| tokio::spawn(write(load.clone(), number))).collect();
    let Load { servers, run_id, is_over, reports } = load;
    read_phases(reports, is_over);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await??);
    }
    println!();
    recorder.await?.iter().for_each(|(name, figures)| println!("{figures}: {name}"));
    let counts = count_events(&servers[0], &run_id).await?;
    Ok(check(&acknowledged, &counts))
}

async fn create_run(client: &Client) -> Result<String, Error> {
    let request =
        CreateRunRequest { goal: "Append during a failover".into(), repo_path: ".".into(), ..Default::default() };
    Ok(client.create_run(request).await?.run.unwrap_or_default().id)
}

/// Reads the names of the phases from the standard input in a thread. Sets `is_over` at the end of the input.
fn read_phases(reports: UnboundedSender<Report>, is_over: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        for name in std::io::stdin().lines().map_while(Result::ok) {
            // The recorder ends only after this thread has dropped its sender, so sending does not fail.
            let _ = reports.send(Report::Phase(name));
        }
        is_over.store(true, Relaxed);
    });
}

/// Appends one event after the other until `is_over`. Returns the messages of the acknowledged events. Fails if an append
/// gets a permanent error, or is not acknowledged within `LIMIT`.
async fn write(load: Load, writer: usize) -> Result<Vec<String>, Error> {
    let mut acknowledged = Vec::new();
    let mut server = writer;
    while !load.is_over.load(Relaxed) {
        let message = format!("{writer}.{}", acknowledged.len());
        let began = Instant::now();
        server += append(&load, server + acknowledged.len() / APPENDS_PER_SERVER, &message).await?;
        // The recorder receives until every writer has ended, so sending does not fail.
        let _ = load.reports.send(Report::Append(began.elapsed()));
        acknowledged.push(message);
    }
    Ok(acknowledged)
}

/// Appends one event through the server with this number. After a temporary error, the function retries the append on the
/// next server, with the same request_id, so that the servers append the event only once. Returns the number of retries.
async fn append(load: &Load, server: usize, message: &str) -> Result<usize, Error> {
    let event =
        EventDraft { source: SOURCE.into(), kind: "appended".into(), message: message.into(), ..Default::default() };
    let request = AppendEventsRequest { run_id: load.run_id.clone(), events: vec![event], request_id: message.into() };
    let mut attempts = 0;
    repeat_for(LIMIT, || {
        // Without this setting, the client would retry on the same server for up to 30 s.
        let client = load.servers[(server + attempts) % load.servers.len()].clone().without_retry();
        attempts += 1;
        let request = request.clone();
        async move { client.append_events(request).await }
    })
    .await?;
    Ok(attempts - 1)
}

/// Prints the figures of each second and the start of each phase. When all senders have been dropped, returns the figures
/// of each phase and of the whole load. An append belongs to the phase in which it is acknowledged.
async fn record(mut reports: UnboundedReceiver<Report>) -> Vec<(String, Figures)> {
    let began = tokio::time::Instant::now();
    let now = || began.elapsed().as_secs_f64();
    let mut seconds = tokio::time::interval_at(began + Duration::from_secs(1), Duration::from_secs(1));
    let mut second = Figures::default();
    let mut phase = Figures::default();
    let mut total = Figures::default();
    let mut name = "the load starts".to_owned();
    let mut phases = Vec::new();
    loop {
        tokio::select! {
            _ = seconds.tick() => println!("{:>5.1} s: {}", now(), std::mem::take(&mut second)),
            report = reports.recv() => match report {
                Some(Report::Append(took)) => {
                    [&mut second, &mut phase, &mut total].into_iter().for_each(|one| one.add(took));
                }
                Some(Report::Phase(next)) => {
                    println!("{:>5.1} s: --- {next}", now());
                    phases.push((std::mem::replace(&mut name, next), std::mem::take(&mut phase)));
                }
                None => break,
            },
        }
    }
    phases.extend([(name, phase), ("in total".to_owned(), total)]);
    phases
}

/// Reads all events of the load from the log. Returns how often each message occurs.
async fn count_events(client: &Client, run_id: &str) -> Result<HashMap<String, usize>, Error> {
    let mut counts = HashMap::new();
    let mut request = ListEventsRequest { run_id: run_id.into(), limit: 1_000, ..Default::default() };
    request.sources.push(SOURCE.into());
    request.after_position = Some(0);
    loop {
        let page = client.list_events(request.clone()).await?;
        if page.events.is_empty() {
            return Ok(counts);
        }
        for event in page.events {
            *counts.entry(event.message).or_default() += 1;
        }
        request.after_position = Some(page.next_position);
        request.log_id = Some(page.log_id);
    }
}

/// Prints how many acknowledged appends are missing from the log, and how many events are in the log more than once.
/// Returns a failure if one of the numbers is not 0.
fn check(acknowledged: &[String], counts: &HashMap<String, usize>) -> ExitCode {
    let lost = acknowledged.iter().filter(|message| !counts.contains_key(*message)).count();
    let twice = counts.values().filter(|count| **count > 1).count();
    println!("\nacknowledged appends: {}, lost: {lost}, twice: {twice}", HumanCount(acknowledged.len() as u64));
    if lost + twice == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
