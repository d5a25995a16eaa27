//! `runhub serve`: the server.

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
use crate::housekeeping::Keep;
use crate::server::Server;

#[derive(Args)]
pub struct ServeArgs {
    /// Where to listen: IP:PORT (port 0: any free one) or unix:PATH
    #[arg(long, env = "RUNHUB_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    listen: Listen,

    /// The database file, made if it is not there
    #[arg(long, env = "RUNHUB_DB", value_name = "FILE", default_value = "runhub.db")]
    db: PathBuf,

    /// How long open calls and streams get to end on SIGTERM or SIGINT
    #[arg(long, env = "RUNHUB_DRAIN", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    drain: Duration,

    /// How long the answer to a request_id is kept, to be given again
    #[arg(long, env = "RUNHUB_KEEP_REQUESTS_FOR", value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    keep_requests_for: Duration,

    /// How long events are kept, at least 1s; older ones go from the old end of the log. For ever, unless this is said
    #[arg(long, env = "RUNHUB_KEEP_EVENTS_FOR", value_name = "DURATION", value_parser = keep_events_for)]
    keep_events_for: Option<Duration>,

    /// How long an agent may be silent before its task is taken back, if its claim does not say: 1s to 24h
    #[arg(long, env = "RUNHUB_DEFAULT_LEASE", value_name = "DURATION", default_value = "10m", value_parser = lease_duration)]
    default_lease: Duration,

    /// Allow an address that other machines can reach: there is no authentication and no encryption yet
    #[arg(long, env = "RUNHUB_INSECURE", value_parser = FalseyValueParser::new())]
    insecure: bool,

    /// How log lines look, on standard error
    #[arg(long, env = "RUNHUB_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug, or tracing's directives
    #[arg(long, env = "RUNHUB_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

pub async fn run(args: ServeArgs) -> Result<(), Failure> {
    start_log(&args)?;
    if !args.listen.is_local() && !args.insecure {
        let message = format!(
            "{} can be reached from other machines, and there is no authentication yet: \
            listen on 127.0.0.1 or unix:PATH, or say --insecure",
            args.listen
        );
        return Err(Failure::usage(message));
    }
    let config = Config {
        listen: args.listen,
        db: args.db,
        drain: args.drain,
        keep: Keep { requests_for: args.keep_requests_for, events_for: args.keep_events_for },
        default_lease: args.default_lease,
    };
    let db = config.db.display().to_string();
    let server = Server::bind(config, Arc::new(SystemClock)).await;
    let server = server.map_err(|error| Failure::failed(error.to_string()))?;
    // Before the announcement: who reads it may send a signal at once.
    let shutdown = shutdown_signal()?;
    announce(&server.listens_on(), &db)?;
    server.run(shutdown).await.map_err(|error| Failure::failed(error.to_string()))?;
    tracing::info!("stopped");
    Ok(())
}

/// Watchers that are there are to have a chance.
const SHORTEST_KEPT: Duration = Duration::from_secs(1);

fn keep_events_for(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration >= SHORTEST_KEPT { Ok(duration) } else { Err("it is under 1s".to_owned()) }
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (lease::SHORTEST..=lease::LONGEST).contains(&duration) {
        true => Ok(duration),
        false => Err("it is outside 1s to 24h".to_owned()),
    }
}

fn start_log(args: &ServeArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log).map_err(|error| Failure::usage(format!("--log: {error}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match args.log_format {
        LogFormat::Text => {
            log.with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never).init();
        }
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// On standard output, for people and for programs that ask for any free port.
fn announce(listen: &Listen, db: &str) -> Result<(), Failure> {
    let call = "runhub.v1.ServerService/GetServerInfo";
    let try_it = match listen {
        Listen::Tcp(address) => format!("grpcurl -plaintext {address} {call}"),
        Listen::Unix(path) => format!("grpcurl -plaintext -unix {} {call}", path.display()),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "runhub {} listens on {listen}, data in {db}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "try:  {try_it}")?;
    out.flush()?;
    tracing::info!(%listen, db, "listening");
    Ok(())
}

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
