//! This module implements `runhub serve`, which runs the server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use clap::builder::FalseyValueParser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::log::LogFormat;
use super::out::Out;
use super::store_option::StoreParser;
use super::{Failure, log};
use crate::clock::SystemClock;
use crate::config::{self, Config, Listen};
use crate::domain::lease;
use crate::housekeeping::RetentionTimes;
use crate::server::Server;
use crate::store::{Location, PostgresAddress};

#[derive(Args)]
pub struct ServeArgs {
    /// The address to listen on, as IP:PORT or unix:PATH. Port 0 selects any free port.
    #[arg(long, env = "RUNHUB_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    listen: Listen,

    /// The database file. If the file does not exist, the server creates it.
    #[arg(long, env = "RUNHUB_DB", value_name = "FILE", default_value = "runhub.db")]
    db: PathBuf,

    /// The PostgreSQL database to use instead of a file, as postgres://USER@HOST/DB. Several servers can use one
    /// database. The parameters of the URL are those of libpq, such as sslmode. Set the variable instead of the option if
    /// the URL contains a password, because other users of the machine can read the options.
    #[arg(long, env = "RUNHUB_STORE", value_name = "URL", conflicts_with = "db", hide_env_values = true, value_parser = StoreParser)]
    store: Option<PostgresAddress>,

    /// Refuse to start instead of creating or migrating the tables of the PostgreSQL database. `runhub migrate` migrates
    /// them.
    #[arg(long, env = "RUNHUB_NO_MIGRATE", value_parser = FalseyValueParser::new())]
    no_migrate: bool,

    /// The address at which clients reach this server, for the list of servers that `runhub servers` prints.
    #[arg(long, env = "RUNHUB_ADVERTISE", value_name = "ADDRESS")]
    advertise: Option<String>,

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

    /// The maximum number of open connections, at least 1.
    #[arg(long, env = "RUNHUB_MAX_CONNECTIONS", value_name = "NUMBER", default_value_t = config::DEFAULT_MAX_CONNECTIONS, value_parser = parse_connections)]
    max_connections: usize,

    /// The maximum memory for incomplete requests and unsent responses, at least 160MiB. A number without a unit is a
    /// number of MiB.
    #[arg(long, env = "RUNHUB_MAX_BUFFERED", value_name = "SIZE", default_value = "256MiB", value_parser = parse_buffered)]
    max_buffered: usize,

    /// The maximum size of the temporary files with snapshots and large events that watchers have not read yet. The
    /// files are in the folder of the database. A number without a unit is a number of MiB.
    #[arg(long, env = "RUNHUB_MAX_SPOOL", value_name = "SIZE", default_value = "4GiB", value_parser = parse_size)]
    max_spool: u64,

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

pub async fn run(args: ServeArgs) -> Result<(), Failure> {
    log::start(args.log_format, &args.log)?;
    check_reachability(&args)?;
    let max_files = raise_file_limit();
    let max_spool_files = limit_spool_files(max_files);
    let max_connections = limit_connections(args.max_connections, max_spool_files, max_files);
    let config = Config {
        listen: args.listen,
        store: match args.store {
            None => Location::File(args.db),
            Some(address) if args.no_migrate => Location::Postgres(address.without_migration()),
            Some(address) => Location::Postgres(address),
        },
        advertise: args.advertise,
        drain: args.drain,
        keep: RetentionTimes { requests_for: args.keep_requests_for, events_for: args.keep_events_for },
        default_lease: args.default_lease,
        max_connections,
        max_buffered: args.max_buffered,
        max_spool: args.max_spool,
        max_spool_files,
    };
    let db = config.store.to_string();
    let server = Server::bind(config, Arc::new(SystemClock::new())).await;
    let server = server.map_err(|error| {
        tracing::error!(%error, db, "start refused");
        Failure::failed(error.to_string())
    })?;
    // The server must handle signals before it prints the server's address, because a program that reads the address
    // may send a signal immediately.
    let shutdown = shutdown_signal()?;
    print_address(&server.listen_address(), &db);
    server.run(shutdown).await.map_err(|error| Failure::failed(error.to_string()))?;
    tracing::info!("stopped");
    Ok(())
}

/// Raises the limit of open files to the maximum that the system allows for the process, because each connection needs
/// a file descriptor. Returns the limit, or None if the limit can't be raised. In this case, the server runs with the
/// lower limit.
fn raise_file_limit() -> Option<u64> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            tracing::debug!(limit, "limit of open files");
            Some(limit)
        }
        Err(error) => {
            tracing::warn!(%error, "can't raise the limit of open files");
            None
        }
    }
}

/// Number of files that the server needs in addition to connections and temporary files: the database and its readers.
/// If the process may open few files, the server keeps half of the files for connections.
const OTHER_FILES: usize = 64;

/// Returns the maximum number of temporary files: 1,000, or an eighth of the files that the process may open if that
/// is less.
fn limit_spool_files(max_files: Option<u64>) -> usize {
    let eighth = max_files.map_or(usize::MAX, |max_files| usize::try_from(max_files / 8).unwrap_or(usize::MAX));
    config::DEFAULT_MAX_SPOOL_FILES.min(eighth)
}

/// Returns the maximum number of connections, so that the process can open all other files that it needs.
fn limit_connections(max_connections: usize, max_spool_files: usize, max_files: Option<u64>) -> usize {
    let Some(max_files) = max_files.and_then(|max_files| usize::try_from(max_files).ok()) else {
        return max_connections;
    };
    let allowed_connections = max_files - (OTHER_FILES + max_spool_files).min(max_files / 2);
    let allowed_connections = allowed_connections.max(1);
    if allowed_connections < max_connections {
        tracing::warn!(
            max_connections,
            max_files,
            allowed_connections,
            "the limit of open files allows fewer connections than --max-connections: raise the limit of open files"
        );
    }
    max_connections.min(allowed_connections)
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

fn parse_connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=Semaphore::MAX_PERMITS).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is not a number from 1 to {}", Semaphore::MAX_PERMITS)),
    }
}

fn parse_buffered(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(parse_size(text)?).unwrap_or(usize::MAX);
    if bytes < config::MIN_MAX_BUFFERED {
        return Err(format!("the memory for requests and responses must be at least 160MiB, not {text}"));
    }
    Ok(bytes)
}

/// Parses a number of bytes with a unit, such as 256MiB. A number without a unit is a number of MiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let with_unit = match text.trim().parse::<u64>() {
        Ok(number) => format!("{number}MiB"),
        Err(_) => text.to_owned(),
    };
    let size: ByteSize = with_unit.parse().map_err(|_| format!("{text:?} is not a size such as 256MiB"))?;
    Ok(size.as_u64())
}

fn parse_lease_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (lease::SHORTEST..=lease::LONGEST).contains(&duration) {
        true => Ok(duration),
        false => Err(format!("the lease duration must be between 1s and 24h, not {text}")),
    }
}

/// Prints the server's address to standard output, for people and for programs that requested port 0. The log contains
/// the address too.
fn print_address(listen: &Listen, db: &str) {
    let call = "runhub.v1.ServerService/GetServerInfo";
    let grpcurl = match listen {
        Listen::Tcp(address) => format!("grpcurl -plaintext {address} {call}"),
        Listen::Unix(path) => format!("grpcurl -plaintext -unix {} {call}", path.display()),
    };
    let mut out = Out::stdout();
    let version = env!("CARGO_PKG_VERSION");
    // If nobody reads the standard output, the server serves nevertheless. An error would end
    // the server of `runhub serve | head -1`.
    let _ = out.print_text(format_args!("runhub {version} listens on {listen}, data in {db}"));
    let _ = out.print_text(format_args!("try:  {grpcurl}"));
    tracing::info!(%listen, db, "listening");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_or_are_in_mib() {
        for text in ["160", "160MiB", "160 MiB", "163840KiB"] {
            assert_eq!(parse_buffered(text), Ok(160 * 1024 * 1024), "{text}");
        }
        assert_eq!(parse_buffered("1GiB"), Ok(1024 * 1024 * 1024));
        for text in ["", "159", "159MiB", "much", "-1"] {
            assert!(parse_buffered(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn connections_leave_files_for_the_database() {
        for (max_files, spool_files, connections) in [
            (None, 1_000, 10_000),
            (Some(1_000_000), 1_000, 10_000),
            (Some(1_024), 128, 832),
            (Some(100), 12, 50),
            (Some(0), 0, 1),
        ] {
            assert_eq!(limit_spool_files(max_files), spool_files, "{max_files:?}");
            assert_eq!(limit_connections(10_000, spool_files, max_files), connections, "{max_files:?}");
        }
        assert!(parse_connections("0").is_err() && parse_connections("x").is_err());
    }
}
