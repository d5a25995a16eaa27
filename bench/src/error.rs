//! This module defines the errors of the bench.

use tonic::Status;

/// An error that ends the measurement, so that the bench returns no result rows.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the value of --payload is not valid JSON ({0}): pass JSON text")]
    Payload(String),
    #[error("{0:?} is not a valid server address: use http://HOST:PORT, HOST:PORT or unix:PATH")]
    Address(String),
    #[error("can't create a database for the bench: {0}")]
    Store(String),
    #[error("the group `store` compares PostgreSQL with SQLite: pass the URL of a PostgreSQL database with --store")]
    NoStore,
    #[error("`{program} serve` did not print its listen address: run the command in a terminal to see the error")]
    ServerNotStarted { program: String },
    #[error("ClaimTask at {url} returned no task, although the bench had added ready tasks: report the bug")]
    NothingToClaim { url: String },
    #[error("no client was able to misuse the server ({abuse}), so the measured times mean nothing: report the bug")]
    NoAbuse { abuse: String },
    #[error("{url}: {cause}")]
    Connect { url: String, cause: Box<runhub_client::Error> },
    #[error(transparent)]
    Client(#[from] runhub_client::Error),
    #[error("can't connect to the server at {url} ({source}): check the address and that the server is running")]
    Unreachable { url: String, source: tonic::transport::Error },
    #[error("the connection to the measured server failed ({0}): check that the server is running")]
    Transport(#[from] tonic::transport::Error),
    #[error(
        "SQLite can't write the comparison database in {folder} ({0}): set TMPDIR to another folder",
        folder = std::env::temp_dir().display()
    )]
    Sqlite(#[from] rusqlite::Error),
    #[error(
        "the folder {folder} does not support WAL (journal_mode is {0}): set TMPDIR to a folder on a local disk",
        folder = std::env::temp_dir().display()
    )]
    NoWal(String),
    #[error("can't create the histogram for the latencies of calls ({0}): report the bug")]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error("a Tokio task of the bench panicked or was cancelled ({0}): report the bug")]
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Client(status.into())
    }
}
