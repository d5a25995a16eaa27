//! The database of a server, as the tests read and change it without the server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runhub_server::store::Location;
use runhub_test_postgres::Postgres;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// A value of a row as text, or None for NULL.
pub type TextRow = Vec<Option<String>>;

/// The database of a server.
#[derive(Debug, Clone)]
pub enum TestDatabase {
    /// The path of an SQLite file.
    File(PathBuf),
    /// The URL of a PostgreSQL database.
    Postgres(String),
}

impl From<&TestDatabase> for TestDatabase {
    fn from(database: &TestDatabase) -> Self {
        database.clone()
    }
}

impl From<PathBuf> for TestDatabase {
    fn from(file: PathBuf) -> Self {
        Self::File(file)
    }
}

impl From<&PathBuf> for TestDatabase {
    fn from(file: &PathBuf) -> Self {
        Self::File(file.clone())
    }
}

impl From<&Path> for TestDatabase {
    fn from(file: &Path) -> Self {
        Self::File(file.to_owned())
    }
}

impl TestDatabase {
    /// Returns the database of the server whose files are in a folder. On PostgreSQL, the folder remembers the URL, so that
    /// a restarted server gets the same database.
    pub fn in_folder(folder: &Path) -> Self {
        if !crate::ON_POSTGRES {
            return Self::File(folder.join("runhub.db"));
        }
        let remembered = folder.join("url");
        let url = std::fs::read_to_string(&remembered).unwrap_or_else(|_| {
            let url = shared_postgres().create_database();
            std::fs::write(&remembered, &url).unwrap();
            url
        });
        Self::Postgres(url)
    }

    pub fn location(&self) -> Location {
        match self {
            Self::File(file) => Location::File(file.clone()),
            Self::Postgres(url) => Location::Postgres(url.parse().unwrap()),
        }
    }

    /// Runs statements that change the database.
    pub fn execute(&self, sql: &str) {
        match self {
            Self::File(file) => {
                let conn = Connection::open(file).unwrap();
                conn.busy_timeout(Duration::from_secs(10)).unwrap();
                conn.execute_batch(sql).unwrap();
            }
            Self::Postgres(url) => runhub_test_postgres::run_sql(url, &in_schema(sql)).unwrap(),
        }
    }

    /// Runs queries on one state of the database, and returns the rows of each.
    pub fn query_together<const N: usize>(&self, queries: [&str; N]) -> [Vec<TextRow>; N] {
        match self {
            Self::File(file) => {
                let conn = open_to_read(file);
                conn.execute_batch("BEGIN").unwrap();
                queries.map(|sql| read_rows(&conn, sql))
            }
            Self::Postgres(url) => {
                let begin = in_schema("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
                let mut results = runhub_test_postgres::query(url, &begin, &queries).into_iter();
                queries.map(|_| results.next().unwrap())
            }
        }
    }

    /// Runs a query and returns its rows.
    pub fn query(&self, sql: &str) -> Vec<TextRow> {
        let [rows] = self.query_together([sql]);
        rows
    }

    /// Returns the names of the tables of the server, in alphabetical order.
    pub fn tables(&self) -> Vec<String> {
        let sql = match self {
            Self::File(_) => {
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
            }
            // The rows of these two tables tell which servers are alive, and change by themselves.
            Self::Postgres(_) => {
                "SELECT tablename FROM pg_tables WHERE schemaname = 'default' AND tablename NOT IN ('servers', 'roles')
                ORDER BY tablename"
            }
        };
        self.query(sql).into_iter().map(|mut row| row.remove(0).unwrap()).collect()
    }
}

/// Returns the PostgreSQL server that all tests of this process share. Without PostgreSQL, this program prints a warning and
/// ends without a failure.
pub fn shared_postgres() -> &'static Postgres {
    runhub_test_postgres::shared().unwrap_or_else(|| std::process::exit(0))
}

fn in_schema(sql: &str) -> String {
    format!("SET search_path = \"default\"; {sql}")
}

pub fn open_to_read(file: &Path) -> Connection {
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    conn.busy_timeout(Duration::from_secs(10)).unwrap();
    conn
}

fn read_rows(conn: &Connection, sql: &str) -> Vec<TextRow> {
    let mut statement = conn.prepare(sql).unwrap();
    let columns = statement.column_count();
    let row = statement.query_map([], |row| (0..columns).map(|at| Ok(to_text(row.get_ref(at)?))).collect());
    row.unwrap().map(Result::unwrap).collect()
}

fn to_text(value: ValueRef) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        other => Some(format!("{other:?}")),
    }
}
