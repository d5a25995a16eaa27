//! This module creates and removes the temporary databases of `runhub bench`.

use super::address::PostgresAddress;
use super::connection::Connection;
use super::open::{on_own_thread, unreachable};
use crate::store::OpenError;

/// A temporary database on the PostgreSQL server of another database.
#[derive(Debug, Clone)]
pub struct TemporaryDatabase {
    name: String,
}

impl TemporaryDatabase {
    /// Returns the temporary database with a number. Databases of different processes have different names.
    pub fn with_number(number: usize) -> Self {
        Self { name: format!("runhub_bench_{}_{number}", std::process::id()) }
    }

    /// Returns the URL of the database. `url` is the URL of another database on the same server.
    pub fn url(&self, url: &str) -> String {
        let (base, query) =
            url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
        // The host begins after "://" and ends before the next slash.
        let host = base.find("://").map_or(0, |at| at + 3);
        let end = base[host..].find('/').map_or(base.len(), |at| host + at);
        format!("{}/{}{query}", &base[..end], self.name)
    }

    /// Creates the database on the server of the database `beside`.
    ///
    /// # Errors
    /// Fails if the server can't be reached, or if the user has no right to create databases.
    pub fn create(&self, beside: &PostgresAddress) -> Result<(), OpenError> {
        run(beside, &format!("CREATE DATABASE {}", self.name))
    }

    /// Removes the database, even if a server still uses it.
    ///
    /// # Errors
    /// Fails if the server can't be reached.
    pub fn remove(&self, beside: &PostgresAddress) -> Result<(), OpenError> {
        run(beside, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name))
    }
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
        let database = TemporaryDatabase { name: "temporary".to_owned() };
        let urls = [
            ("postgres://ann:secret@db.example:5433/work", "postgres://ann:secret@db.example:5433/temporary"),
            ("postgres://ann@/work?host=/run/pg&port=5433", "postgres://ann@/temporary?host=/run/pg&port=5433"),
            ("postgres://db.example", "postgres://db.example/temporary"),
        ];
        for (url, expected) in urls {
            assert_eq!(database.url(url), expected);
        }
    }
}
