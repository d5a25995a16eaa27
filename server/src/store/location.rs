//! This module defines where the data of a server is.

use std::fmt;
use std::path::PathBuf;

use super::PostgresAddress;

/// The location of a database.
#[derive(Debug, Clone)]
pub enum Location {
    /// The path of an SQLite database file.
    File(PathBuf),
    /// The address of a PostgreSQL database.
    Postgres(PostgresAddress),
}

impl fmt::Display for Location {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(to),
            Self::Postgres(address) => address.fmt(to),
        }
    }
}
