//! This module implements `runhub serve`, which runs the server.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::clock::SystemClock;
use crate::config::{Config, Listen};
use crate::domain::lease;
use crate::housekeeping::RetentionTimes;
use crate::server::Server;

#[derive(Args)]
pub struct ServeArgs {
    /// The address to listen on, as IP:PORT or unix:PATH. Port 0 selects any free port.
    #[arg(long, env = "RUNHUB_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    listen: Listen,

    /// The database file. If the file does not exist, the server creates it.
    #[arg(long, env = "RUNHUB_DB", value_name = "FILE", default_value = "runhub.db")]
    db: PathBuf,

    /// The maximum time after SIGTERM or SIGINT in which open calls and streams can end. Then the server stops.
    #[arg(long, env = "RUNHUB_DRAIN", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    drain: Duration,

    /// The time for which the server keeps the response to a request with a request_id, so that duplicate requests get
    /// the same response.
    #[arg(long, env = "RUNHUB_KEEP_REQUESTS_FOR", value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    keep_requests_for: Duration,

    /// The time for which the server keeps events, at least 1s. The server removes older events from the log.
    /// Default: forever.
    #[arg(long, env = "RUNHUB_KEEP_EVENTS_FOR", value_name = "DURATION", value_parser = parse_event_retention)]
    keep_events_for: Option<Duration>,

    /// The lease duration of claims that set no duration, 1s to 24h. If an agent sends no heartbeat for this time, the
    /// agent's task returns to the queue.
    #[arg(long, env = "RUNHUB_DEFAULT_LEASE", value_name = "DURATION", default_value = "10m", value_parser = parse_lease_duration)]
    default_lease: Duration,

    /// Allow an address that other machines can reach. The server has no authentication and no encryption yet.
    #[arg(long, env = "RUNHUB_INSECURE", value_parser = FalseyValueParser::new())]
    insecure: bool,

    /// The format of the log, which the server writes to standard error.
    #[arg(long, env = "RUNHUB_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// The log level (error, warn, info or debug), or filter directives of the Rust library tracing.
    #[arg(long, env = "RUNHUB_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Write the log as text for people.
    Text,
    /// Write the log as one JSON object per line.
    Json,
}

pub async fn run(args: ServeArgs) -> Result<(), Failure> {
    start_log(&args)?;
    check_reachability(&args)?;
    let config = Config {
        listen: args.listen,
        db: args.db,
        drain: args.drain,
        keep: RetentionTimes { requests_for: args.keep_requests_for, events_for: args.keep_events_for },
        default_lease: args.default_lease,
    };
    raise_file_limit();
    let db = config.db.display().to_string();
    let server = Server::bind(config, Arc::new(SystemClock)).await;
    let server = server.map_err(|error| {
        tracing::error!(%error, db, "start refused");
        Failure::failed(error.to_string())
    })?;
    // The server must handle signals before it prints the server's address, because a program that reads the address
    // may send a signal immediately.
    let shutdown = shutdown_signal()?;
    print_address(&server.listen_address(), &db)?;
    server.run(shutdown).await.map_err(|error| Failure::failed(error.to_string()))?;
    tracing::info!("stopped");
    Ok(())
}

/// Raises the limit of open files to the maximum that the system allows for the process, because each connection needs
/// a file descriptor. If the limit can't be raised, the server runs with the lower limit.
fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "limit of open files"),
        Err(error) => tracing::warn!(%error, "can't raise the limit of open files"),
    }
}

/// Fails if other machines can reach the listen address and `--insecure` was not passed.
fn check_reachability(args: &ServeArgs) -> Result<(), Failure> {
    if args.listen.is_local() || args.insecure {
        return Ok(());
    }
    let error = format!(
        "other machines can reach {}, and the server has no authentication yet: \
        listen on 127.0.0.1 or unix:PATH, or pass --insecure",
        args.listen
    );
    tracing::error!(error, "start refused");
    Err(Failure::usage(error))
}

/// The minimum time for which the server keeps events. A shorter time would remove events before live watchers
/// receive them.
const MIN_EVENT_RETENTION: Duration = Duration::from_secs(1);

fn parse_event_retention(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration >= MIN_EVENT_RETENTION {
        Ok(duration)
    } else {
        Err(format!("the retention of events must be at least 1s, not {text}"))
    }
}

fn parse_lease_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (lease::SHORTEST..=lease::LONGEST).contains(&duration) {
        true => Ok(duration),
        false => Err(format!("the lease duration must be between 1s and 24h, not {text}")),
    }
}

fn start_log(args: &ServeArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log).map_err(|error| Failure::usage(format!("--log: {error}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match args.log_format {
        LogFormat::Text => {
            let is_colored = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
            log.with_ansi(is_colored).init();
        }
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Prints the server's address to standard output, for people and for programs that requested port 0. Fails if standard
/// output can't be written.
fn print_address(listen: &Listen, db: &str) -> Result<(), Failure> {
    let call = "runhub.v1.ServerService/GetServerInfo";
    let grpcurl = match listen {
        Listen::Tcp(address) => format!("grpcurl -plaintext {address} {call}"),
        Listen::Unix(path) => format!("grpcurl -plaintext -unix {} {call}", path.display()),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "runhub {} listens on {listen}, data in {db}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "try:  {grpcurl}")?;
    out.flush()?;
    tracing::info!(%listen, db, "listening");
    Ok(())
}

/// Returns a future that completes with the first SIGTERM or SIGINT. Fails if the signals can't be handled.
fn shutdown_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal, "shutting down");
    })
}
