//! This module creates and removes the temporary databases of `runhub bench`.

use std::fmt;

use super::address::PostgresAddress;
use super::connection::Connection;
use super::open::{on_own_thread, unreachable};
use crate::store::OpenError;

/// A temporary database on the PostgreSQL server of another database.
pub struct TemporaryDatabase {
    name: String,
    url: String,
    /// The other database.
    beside: PostgresAddress,
}

/// Shows the name and not the URL, because the URL can contain a password.
impl fmt::Debug for TemporaryDatabase {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        self.name.fmt(to)
    }
}

impl TemporaryDatabase {
    /// Creates a database on the server of the database `beside`, which has the URL `url`. Databases with different numbers
    /// and databases of different processes have different names.
    ///
    /// # Errors
    /// Fails if the server can't be reached, or if the user has no right to create databases.
    pub fn create(beside: &PostgresAddress, url: &str, number: usize) -> Result<Self, OpenError> {
        let name = format!("runhub_bench_{}_{number}", std::process::id());
        run(beside, &format!("CREATE DATABASE {name}"))?;
        Ok(Self { url: with_database(url, &name), name, beside: beside.clone() })
    }

    /// Returns the URL of the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Removes the database, even if a server still uses it.
    ///
    /// # Errors
    /// Fails if the server can't be reached.
    pub fn remove(&self) -> Result<(), OpenError> {
        run(&self.beside, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name))
    }
}

/// Returns a URL with another name of the database.
fn with_database(url: &str, name: &str) -> String {
    // The host begins after "://". The host ends before the next slash, before the parameters, or with the URL.
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?']).map_or(url.len(), |at| host + at);
    let parameters = url.find('?').map_or("", |at| &url[at..]);
    format!("{}/{name}{parameters}", &url[..end])
}

/// Runs a statement that has no parameters. The text contains no value of a user.
fn run(address: &PostgresAddress, statement: &str) -> Result<(), OpenError> {
    on_own_thread(address, || {
        let mut connection = Connection::open(address).map_err(|cause| unreachable(address, cause))?;
        connection.run_script(statement).map_err(|cause| unreachable(address, cause.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_has_the_name_of_the_temporary_database() {
        let urls = [
            ("postgres://ann:secret@db.example:5433/work", "postgres://ann:secret@db.example:5433/temporary"),
            ("postgres://ann@/work?host=/run/pg&port=5433", "postgres://ann@/temporary?host=/run/pg&port=5433"),
            ("postgres://db.example", "postgres://db.example/temporary"),
            ("postgres://db.example?user=ann", "postgres://db.example/temporary?user=ann"),
        ];
        for (url, expected) in urls {
            assert_eq!(with_database(url, "temporary"), expected);
        }
    }
}
