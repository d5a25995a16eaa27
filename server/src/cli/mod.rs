//! This module implements the command line, with one module for each command or group of related commands.

mod approvals;
mod backup;
mod bench;
mod decide;
mod exit;
mod import;
mod json;
mod log;
mod maintenance;
mod migrate;
mod out;
mod pages;
mod progress;
mod reset_log_id;
mod restore;
mod run_control;
mod runs;
mod serve;
mod servers;
mod show;
mod store_option;
mod table;
mod tasks;
mod vacuum;
mod watch;
mod why;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use runhub_client::Client;
use tokio::signal::unix::{SignalKind, signal};

pub use self::exit::Failure;

/// Runhub is the coordination server for AI-agent runs.
///
/// If no command is passed, runhub starts the server. Agents in any language plan a run over gRPC, claim its tasks,
/// report attempts, ask for approval and save checkpoints. People watch every event live, decide approvals, and pause
/// or cancel runs.
#[derive(Parser)]
#[command(name = "runhub", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

const AFTER_HELP: &str = "\
Examples:
  runhub                                  serve on 127.0.0.1:50051, with the data in ./runhub.db
  runhub runs                             list the runs, newest first
  runhub show RUN                         show a run in detail
  runhub watch RUN                        show its events live
  runhub approvals                        list the pending approvals of all runs
  runhub approve APPROVAL                 approve; or: runhub reject APPROVAL --because TEXT
  runhub pause RUN                        lease no more tasks of a run; also: resume, cancel
  runhub why TASK                         explain why no agent can claim a task now
  runhub import beads issues.jsonl        import a beads ledger as a run (stop the server first)
  runhub backup backup.db                 back up the database, also while the server runs
  runhub restore backup.db --db new.db    create a database from a backup

Exit codes:
  0  success
  1  the server refused the call, or the command failed
  2  the command line is wrong
  3  no server answers
  4  the run, task or approval does not exist";

#[derive(Subcommand)]
enum Command {
    /// Run the server. This is the default command.
    Serve(serve::ServeArgs),
    /// List the runs, newest first.
    Runs(runs::RunsArgs),
    /// Show a run with its tasks, attempts, agents, approvals, artifacts and newest events.
    Show(show::ShowArgs),
    /// List the tasks of a run, in the order of the plan.
    Tasks(tasks::TasksArgs),
    /// Show events live, and continue after a restart of the server.
    ///
    /// While the server is away, the command says so on standard error. The command ends as soon as the program that
    /// reads its output ends.
    Watch(watch::WatchArgs),
    /// Explain why a task can't be claimed now.
    Why(why::WhyArgs),
    /// List the pending approvals, oldest first.
    Approvals(approvals::ApprovalsArgs),
    /// Approve a requested approval.
    Approve(decide::ApproveArgs),
    /// Reject a requested approval, or request changes.
    Reject(decide::RejectArgs),
    /// Pause a run. Agents can't claim tasks of the run, but continue to hold the leases of claimed tasks.
    Pause(run_control::ControlArgs),
    /// Resume a paused run with its status from before the pause.
    Resume(run_control::ControlArgs),
    /// Cancel a run. Agents get a grace period to finish leased tasks.
    Cancel(run_control::CancelArgs),
    /// Permanently delete a run that has ended, with its plan and its log.
    Delete(run_control::DeleteArgs),
    /// List the living servers that share the database.
    Servers(servers::ServersArgs),
    /// Measure the performance of the server on this machine.
    Bench(bench::BenchArgs),
    /// Import the runs and tasks of another tool into a database that no server has open.
    Import(import::ImportArgs),
    #[command(flatten)]
    Database(DatabaseCommand),
}

/// The commands that work on a database.
#[derive(Subcommand)]
enum DatabaseCommand {
    /// Copy the database into a new file, also while a server has the database open.
    ///
    /// The backup is one complete file, which contains every write that was acknowledged before the command started.
    /// The command checks the backup, and shows its progress on a terminal. If the command fails or is interrupted, it
    /// leaves no file.
    Backup(backup::BackupArgs),
    /// Create a new database from a backup.
    ///
    /// The restored database gets a new log_id, and its positions continue 2^32 higher, so that no position is given
    /// twice. The database file must not exist. The command checks the backup. If the command fails or is interrupted,
    /// it leaves no database.
    Restore(restore::RestoreArgs),
    /// Give a copied database a new log_id, if the original is still in use or was in use after the copy.
    ///
    /// A copy that was made by hand has the log_id of its original and assigns the same positions to other events, so a
    /// watcher of the original could resume in the copy and miss events. The copy's positions continue 2^32 higher.
    /// Stop the server first. `runhub restore` has the same effect.
    ResetLogId(reset_log_id::ResetLogIdArgs),
    /// Return the unused space of a database to the file system, while no server has the database open.
    ///
    /// The command also converts a database of an older version of Runhub, so that the server can return the space of
    /// removed rows while it runs. The command needs free space beside the database, up to twice the size of the rows.
    /// If the command fails or is interrupted, the database stays as it was.
    Vacuum(vacuum::VacuumArgs),
    /// Create or migrate the tables of a PostgreSQL database.
    ///
    /// A server does this itself when it starts, unless it runs with --no-migrate. While the tables are migrated, the
    /// writes of running servers wait. Servers of an older version end afterwards, because they don't know the tables.
    Migrate(migrate::MigrateArgs),
}

/// Contains the option `--server`, which every command that calls a server accepts.
#[derive(Args)]
struct ServerArgs {
    /// The address of the server, as http://HOST:PORT, HOST:PORT or unix:PATH.
    #[arg(long, env = "RUNHUB_SERVER", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    server: String,
}

impl ServerArgs {
    /// Returns a client that is connected to the server and does not retry failed calls, so that a person sees a
    /// failure immediately. Fails if the address is invalid or no server answers.
    async fn connect(&self) -> Result<Client, Failure> {
        let client = Client::connect(&self.server).await;
        let client = client.map_err(|error| Failure::from(error).with_server_address(&self.server))?;
        Ok(client.without_retry())
    }
}

/// Returns the definition of the command line, so that tests can check the commands in the documentation.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line, runs the command, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let problem =
                format!("can't start the Tokio runtime ({error}): raise the limit on open files (`ulimit -n`)");
            return Failure::failed(problem).report();
        }
    };
    let result = runtime.block_on(run(cli));
    // Unlike dropping the runtime, `shutdown_background` does not wait for blocking threads. A database read that
    // hangs would otherwise keep the process running after the drain time.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    handle_file_size_signal()?;
    match cli.command {
        None => serve::run(cli.serve).await,
        Some(Command::Serve(args)) => serve::run(args).await,
        Some(Command::Runs(args)) => runs::run(args).await,
        Some(Command::Servers(args)) => servers::run(args).await,
        Some(Command::Show(args)) => show::run(args).await,
        Some(Command::Tasks(args)) => tasks::run(args).await,
        Some(Command::Watch(args)) => watch::run(args).await,
        Some(Command::Why(args)) => why::run(args).await,
        Some(Command::Approvals(args)) => approvals::run(args).await,
        Some(Command::Approve(args)) => decide::approve(args).await,
        Some(Command::Reject(args)) => decide::reject(args).await,
        Some(Command::Pause(args)) => run_control::pause(args).await,
        Some(Command::Resume(args)) => run_control::resume(args).await,
        Some(Command::Cancel(args)) => run_control::cancel(args).await,
        Some(Command::Delete(args)) => run_control::delete(args).await,
        Some(Command::Bench(args)) => bench::run(args).await,
        Some(Command::Import(args)) => import::run(args).await,
        Some(Command::Database(command)) => run_on_database(command).await,
    }
}

async fn run_on_database(command: DatabaseCommand) -> Result<(), Failure> {
    match command {
        DatabaseCommand::Backup(args) => backup::run(args).await,
        DatabaseCommand::Restore(args) => restore::run(args).await,
        DatabaseCommand::ResetLogId(args) => reset_log_id::run(args).await,
        DatabaseCommand::Vacuum(args) => vacuum::run(args).await,
        DatabaseCommand::Migrate(args) => migrate::run(&args),
    }
}

/// Handles the signal SIGXFSZ and does nothing. The signal would otherwise end the process when a write exceeds the
/// limit of the file size. With the handler, the write fails with EFBIG, which the store handles as a full disk.
fn handle_file_size_signal() -> Result<(), Failure> {
    // Tokio keeps the handler after the receiver is dropped.
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop).map_err(Failure::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_command_line_definition() {
        command().debug_assert();
    }
}
