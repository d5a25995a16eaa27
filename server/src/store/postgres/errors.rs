//! This module converts PostgreSQL's errors to the store's errors.

use tokio_postgres::error::SqlState;

use super::tls;
use crate::error::Error;

/// Converts the error of a statement, or of a connection, to the store's error type. Returns:
///
/// - `StoreBusy` if the server can't reach the database, or if the database is busy, read-only or shutting down;
/// - `StoreFull` if the disk of the database is full;
/// - `Internal` for any other error.
pub(super) fn store_error(error: &tokio_postgres::Error) -> Error {
    // An error without a code is an error of the connection.
    let Some(code) = error.code() else { return Error::StoreBusy };
    if *code == SqlState::DISK_FULL {
        return Error::StoreFull;
    }
    if is_temporary(code) {
        return Error::StoreBusy;
    }
    Error::internal(format!("PostgreSQL: {}", describe(error)))
}

/// Returns whether the statement can succeed later. The class of an error is the first two characters of its code.
fn is_temporary(code: &SqlState) -> bool {
    const CLASSES: [&str; 3] = [
        "08", // The connection failed.
        "53", // The database has not enough memory or connections.
        "57", // An operator intervened, for example to shut the database down.
    ];
    let other = [
        SqlState::READ_ONLY_SQL_TRANSACTION, // The server is connected to a standby.
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    CLASSES.iter().any(|class| code.code().starts_with(class)) || other.contains(code)
}

/// Returns the error as one line, with its cause.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(refused), _) => format!("{} ({})", refused.message(), refused.code().code()),
        (None, Some(cause)) => match tls::explain(cause) {
            Some(explanation) => format!("{error}: {explanation}"),
            None => format!("{error}: {cause}"),
        },
        (None, None) => error.to_string(),
    }
}
