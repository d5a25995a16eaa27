//! `runhub bench`: measures a Runhub server from outside, over real sockets.
//!
//! A row compares its figure with a ceiling from the same run. The bench alternates between the two, because other
//! programs may use the machine at the same time. This crate knows the API and not the server's inside: the server's
//! program passes in what the bench needs as `Host`.

mod appends;
mod bench;
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
mod stream;
mod wake;
mod watchers;

use std::path::PathBuf;

use indicatif::ProgressBar;

use self::bench::Bench;
pub use self::error::Error;
pub use self::options::{EXAMPLE_PAYLOAD, Options};
pub use self::row::{Row, Target};

/// Everything that the bench takes from the program that runs it.
#[derive(Debug)]
pub struct Host {
    /// The `runhub` binary. The bench starts its own servers with it.
    pub program: PathBuf,
    /// Number of calls that the server has in service before it refuses further ones with OVERLOADED.
    pub max_calls_in_service: usize,
    /// The progress bar, which the bench removes at the end.
    pub progress: ProgressBar,
}

/// Measures the groups that the options name and returns their rows.
///
/// # Errors
/// Fails if the payload is not JSON, a server can't be started or reached, a call fails, or a temporary file can't be
/// written.
pub async fn run(options: &Options, host: Host) -> Result<Vec<Row>, Error> {
    let bench = Bench::start(options, host).await?;
    bench.warm_up().await?;
    let mut rows = Vec::new();
    for group in options.groups() {
        rows.extend(bench.measure(*group).await?);
    }
    bench.finish_progress();
    Ok(rows)
}
