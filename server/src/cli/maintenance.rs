//! This module contains what the commands for database files share: `backup`, `restore`, `reset-log-id` and `vacuum`.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::out::Out;
use super::{Failure, out, progress};
use crate::store::maintenance::{Control, MaintenanceError, Progress};

/// Contains the option that selects the database file of a command.
#[derive(Args)]
pub struct DbArgs {
    /// The database file.
    #[arg(long, env = "RUNHUB_DB", value_name = "FILE", default_value = "runhub.db")]
    pub db: PathBuf,
}

impl From<MaintenanceError> for Failure {
    fn from(error: MaintenanceError) -> Self {
        Self::failed(error.to_string())
    }
}

/// Runs an operation on database files, shows a progress bar on standard error, and returns the result of the
/// operation. Interrupts the operation on SIGINT, SIGTERM and SIGHUP, so that the operation removes its unfinished
/// files. Some steps can't be interrupted, so a second signal ends the command at once. Fails if the operation fails or
/// the signals can't be handled.
pub async fn run<T: Send + 'static>(
    operation: impl FnOnce(&Control) -> Result<T, MaintenanceError> + Send + 'static,
) -> Result<T, Failure> {
    let mut signals = Signals::new()?;
    let bar = progress::new_byte_progress_bar();
    let shown = bar.clone();
    let control = Control::new(move |progress| show(&shown, progress));
    let passed = control.clone();
    let mut running = tokio::task::spawn_blocking(move || operation(&passed));
    let mut finished = tokio::select! {
        result = &mut running => Some(result),
        () = signals.next() => None,
    };
    if finished.is_none() {
        control.interrupt();
        progress::show_activity(&bar, "stopping; press Ctrl-C to stop at once".to_owned());
        finished = tokio::select! {
            result = &mut running => Some(result),
            () = signals.next() => None,
        };
    }
    bar.finish_and_clear();
    match finished {
        Some(Ok(result)) => Ok(result?),
        Some(Err(error)) => Err(Failure::failed(format!("the operation has failed ({error}): report the bug"))),
        None => Err(Failure::failed("stopped at once: if a file that ends with .partial remains, delete it")),
    }
}

/// Receives the signals that ask a command to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn show(bar: &ProgressBar, progress: Progress) {
    match progress {
        Progress::Copying { bytes, total } => {
            bar.set_message("copying");
            bar.set_length(total);
            bar.set_position(bytes);
        }
        Progress::Checking => progress::show_activity(bar, "checking the copy".to_owned()),
        Progress::Vacuuming { needed } => {
            let needed = format_bytes(needed);
            progress::show_activity(bar, format!("vacuuming; needs up to {needed} of free space"));
        }
    }
}

/// Returns a number of bytes as text, such as `1.5 MiB`.
pub fn format_bytes(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// Prints a line with the name and the value of each field. Fails if the output can't be written.
pub fn print_fields(out: &mut Out, fields: &[(&str, String)]) -> Result<(), Failure> {
    for (name, value) in fields {
        out.print_text(format_args!("  {name:<15}  {value}"))?;
    }
    Ok(())
}

/// Prints a result as one line of JSON. Fails if the output can't be written.
pub fn print_json(result: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(result).map_err(|error| Failure::failed(error.to_string()))?;
    Ok(out::print_json(&json)?)
}
