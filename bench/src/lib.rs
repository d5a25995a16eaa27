//! This crate implements `runhub bench`, which measures the rates, the latencies, the start time and the memory of a
//! Runhub server over network sockets.
//!
//! A result row compares a measured figure with a ceiling: the figure of a comparable operation, such as an empty call.
//! The bench alternates between the measurements of the figure and of the ceiling, because other programs may use the
//! machine at the same time. This crate uses only the server's API, so the `runhub` binary passes all other data about
//! the server as [`Host`].

pub mod abuse;
mod appends;
mod backlog;
mod bench;
mod changes;
mod claims;
mod delays;
mod error;
mod growth;
mod idle;
mod load;
mod options;
mod overload;
mod own_server;
mod row;
mod sample;
mod sqlite;
mod store;
mod stream;
mod wake;
mod watchers;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use indicatif::ProgressBar;

use self::bench::Bench;
pub use self::error::Error;
pub use self::options::{EXAMPLE_PAYLOAD, Options};
pub use self::row::{Row, Target};

/// The values that the `runhub` binary passes to the bench.
#[derive(Debug)]
pub struct Host {
    /// The path of the `runhub` binary, with which the bench starts its servers.
    pub program: PathBuf,
    /// Maximum number of calls that the server serves at the same time. The server refuses further calls with
    /// OVERLOADED.
    pub max_calls_in_service: usize,
    /// Creates the databases of the servers that the bench starts, on the PostgreSQL server that the option `--store`
    /// names. Without the option, the servers use SQLite.
    pub databases: Option<Arc<dyn Databases>>,
    /// The progress bar of the measurement. The bench removes the bar at the end.
    pub progress: ProgressBar,
}

/// Creates databases on a PostgreSQL server.
pub trait Databases: Debug + Send + Sync {
    /// Creates an empty database.
    ///
    /// # Errors
    /// Fails with the cause if the database can't be created.
    fn create(&self) -> Result<Box<dyn Database>, String>;
}

/// A database on a PostgreSQL server. Dropping the value removes the database.
pub trait Database: Debug + Send + Sync {
    /// Returns the URL of the database, which can contain a password.
    fn url(&self) -> &str;
}

/// Measures the groups of result rows that the options select, and returns the result rows.
///
/// # Errors
/// Fails if the payload is not JSON, if a server can't be started or reached, if a call fails, or if a temporary file
/// can't be written.
pub async fn run(options: &Options, host: Host) -> Result<Vec<Row>, Error> {
    let bench = Bench::start(options, host).await?;
    bench.warm_up().await?;
    let mut rows = Vec::new();
    for group in options.groups() {
        rows.extend(bench.measure(group).await?);
    }
    bench.finish_progress();
    Ok(rows)
}
