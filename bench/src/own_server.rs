//! A server that the bench starts on a temporary file.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Error;

/// A running server. Dropping it ends the process.
pub struct OwnServer {
    // The order of the fields matters: the process must end before its folder is removed.
    process: Process,
    pub url: String,
    /// The time from its start until it printed its address.
    pub ready_after: Duration,
    folder: TempDir,
}

/// A process that is killed when it is dropped.
struct Process(Child);

impl OwnServer {
    /// Starts a server on an empty database and waits until it listens.
    pub fn start(program: &Path) -> Result<Self, Error> {
        Self::start_in(program, tempfile::tempdir()?)
    }

    /// Kills the server and starts another on its database.
    pub fn restart(self, program: &Path) -> Result<Self, Error> {
        drop(self.process);
        Self::start_in(program, self.folder)
    }

    fn start_in(program: &Path, folder: TempDir) -> Result<Self, Error> {
        let db = folder.path().join("bench.db");
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--db"]).arg(db);
        // The user's settings for their own server must not change what is measured.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_runhub_setting(name)) {
            command.env_remove(name);
        }
        let started = Instant::now();
        let mut process = Process(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        let mut line = String::new();
        // The pipe stays open, because the server prints more than this line.
        if let Some(out) = process.0.stdout.as_mut() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let ready_after = started.elapsed();
        let Some(address) = line.split(" listens on ").nth(1).and_then(|rest| rest.split(',').next()) else {
            return Err(Error::ServerNotStarted { program: program.display().to_string() });
        };
        let url = format!("http://{address}");
        Ok(Self { process, url, ready_after, folder })
    }

    /// Returns the server's resident memory in MiB; None where the operating system does not report it.
    pub fn resident_mib(&self) -> Option<f64> {
        self.memory_mib("VmRSS:")
    }

    /// Returns the server's peak resident memory in MiB; None where the operating system does not report it.
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
        // Both calls fail only if the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
