//! This module starts a server with a temporary database: an SQLite file, or a database on a PostgreSQL server.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Database, Databases, Error};

/// A running server process. Dropping the value kills the process.
pub struct OwnServer {
    // Rust drops the fields in the order of their declaration. `process` comes before `database`, because the process
    // must end before the database is removed.
    process: Process,
    pub url: String,
    /// The time from the start of the process until the process printed its address.
    pub ready_after: Duration,
    database: Arc<ServerDatabase>,
    program: PathBuf,
}

/// The database of a server. Dropping the last reference to the value removes the database.
#[derive(Debug)]
pub enum ServerDatabase {
    /// A folder that contains an SQLite file.
    Folder(TempDir),
    /// A database on a PostgreSQL server.
    Postgres(Box<dyn Database>),
}

impl ServerDatabase {
    /// Creates an empty database: on a PostgreSQL server if `databases` is set, or else an SQLite file. Fails if the
    /// database can't be created.
    pub fn create(databases: Option<&Arc<dyn Databases>>) -> Result<Self, Error> {
        match databases {
            None => Ok(Self::Folder(tempfile::tempdir()?)),
            Some(databases) => databases.create().map(Self::Postgres).map_err(Error::Store),
        }
    }

    fn add_arguments(&self, command: &mut Command) {
        match self {
            Self::Folder(folder) => command.arg("--db").arg(folder.path().join("bench.db")),
            // Pass the URL as a variable, because other users can see the arguments of a process.
            Self::Postgres(database) => command.env("RUNHUB_STORE", database.url()),
        };
    }
}

/// A child process. Dropping the value kills the process.
struct Process(Child);

impl OwnServer {
    /// Kills the server, starts a new server with the database of the killed server, and returns the new server. Fails
    /// if the new process can't be started or prints no address.
    pub fn restart(self) -> Result<Self, Error> {
        drop(self.process);
        Self::start(&self.program, self.database)
    }

    /// Starts a server with a database, waits until the server listens, and returns the server. Fails if the process
    /// can't be started or prints no address.
    pub fn start(program: &Path, database: Arc<ServerDatabase>) -> Result<Self, Error> {
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error"]);
        // Remove the user's RUNHUB_ variables, because the settings in these variables would change the measured
        // figures.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_runhub_setting(name)) {
            command.env_remove(name);
        }
        database.add_arguments(&mut command);
        let started = Instant::now();
        let mut process = Process(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        let mut line = String::new();
        // Borrow the pipe of the server's standard output. If the bench closed this pipe, the server could not print
        // further lines.
        if let Some(out) = process.0.stdout.as_mut() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let ready_after = started.elapsed();
        let Some(address) = line.split(" listens on ").nth(1).and_then(|rest| rest.split(',').next()) else {
            return Err(Error::ServerNotStarted { program: program.display().to_string() });
        };
        let url = format!("http://{address}");
        Ok(Self { process, url, ready_after, database, program: program.to_owned() })
    }

    /// Returns the server's resident memory in MiB, or None if the operating system does not report the memory.
    pub fn resident_mib(&self) -> Option<f64> {
        self.memory_mib("VmRSS:")
    }

    /// Returns the server's peak resident memory in MiB, or None if the operating system does not report the memory.
    pub fn peak_mib(&self) -> Option<f64> {
        self.memory_mib("VmHWM:")
    }

    fn memory_mib(&self, field: &str) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib / 1024.0)
    }
}

fn is_runhub_setting(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("RUNHUB_")
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ignore the results, because `kill` and `wait` fail only if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
