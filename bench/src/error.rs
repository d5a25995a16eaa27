//! The errors of the bench.

use tonic::Status;

/// The reason why the bench returns no rows.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("--payload is not valid JSON: {0}")]
    Payload(String),
    #[error("the server's address is not a valid URI: {0}")]
    Address(String),
    #[error("{program} serve did not print the address it listens on: run it by hand to see why")]
    ServerNotStarted { program: String },
    #[error("the server returned no ready task to claim")]
    NothingToClaim,
    #[error("{url}: {cause}")]
    Connect { url: String, cause: Box<runhub_client::Error> },
    #[error(transparent)]
    Client(#[from] runhub_client::Error),
    #[error("can't connect to the server that is measured: {0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("SQLite can't write the database that the server is compared with: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error(
        "the temporary folder does not support WAL (journal_mode stays {0}): set TMPDIR to a folder on a local disk"
    )]
    NoWal(String),
    #[error("the histogram of a sample can't be made: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error("a task of the bench ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Client(status.into())
    }
}
