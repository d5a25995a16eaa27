//! A server of this same program, on a temporary file.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cli::Failure;

/// Runs until it is dropped.
pub struct OwnServer {
    // Dropped before its folder.
    process: Process,
    pub url: String,
    /// From its start until it said where it listens.
    pub ready_after: Duration,
    folder: TempDir,
}

/// Killed when it is dropped.
struct Process(Child);

impl OwnServer {
    /// Starts it with nothing in it and waits until it listens.
    pub fn start() -> Result<Self, Failure> {
        Self::start_in(tempfile::tempdir()?)
    }

    /// Kills it and starts it again with what it has.
    pub fn restart(self) -> Result<Self, Failure> {
        drop(self.process);
        Self::start_in(self.folder)
    }

    fn start_in(folder: TempDir) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--db"])
            .arg(folder.path().join("bench.db"));
        // What the user has set for a server of theirs is not meant for this one.
        std::env::vars_os().map(|(name, _)| name).filter(|name| is_ours(name)).for_each(|name| {
            command.env_remove(name);
        });
        let begun = Instant::now();
        let mut process = Process(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        let mut line = String::new();
        // Left open: it has more to say than this line.
        if let Some(out) = process.0.stdout.as_mut() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let ready_after = begun.elapsed();
        let address = line.split(" listens on ").nth(1).and_then(|rest| rest.split(',').next());
        let Some(address) = address else { return Err(Failure::failed("the server to measure did not start")) };
        let url = format!("http://{address}");
        Ok(Self { process, url, ready_after, folder })
    }

    /// How much of it is in memory, in MiB; None where the system does not say.
    pub fn resident_mib(&self) -> Option<f64> {
        self.mib("VmRSS:")
    }

    /// The same at most so far.
    pub fn peak_mib(&self) -> Option<f64> {
        self.mib("VmHWM:")
    }

    fn mib(&self, what: &str) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(what))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib / 1024.0)
    }
}

fn is_ours(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with("RUNHUB_")
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that is gone already needs no end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
