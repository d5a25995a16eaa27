//! The command line: one file a command.

mod approvals;
mod bench;
mod decide;
mod exit;
mod import;
mod json;
mod pages;
mod progress;
mod run_control;
mod runs;
mod serve;
mod show;
mod table;
mod tasks;
mod watch;
mod why;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use runhub_client::{Client, Error};

pub use self::exit::Failure;

/// The coordination server for AI-agent runs.
///
/// Without a command it serves: agents in any language plan a run over gRPC, claim its tasks, report attempts, ask
/// for approval and leave checkpoints. Whoever watches sees every event, decides what is asked, and pauses or cancels runs.
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
  runhub                                  serve on 127.0.0.1:50051, data in ./runhub.db
  runhub runs                             what runs there are, the newest first
  runhub show RUN                         all about one run
  runhub watch RUN                        its events, live
  runhub approvals                        what waits for a decision, in all runs
  runhub approve APPROVAL                 say yes; or: runhub reject APPROVAL --because TEXT
  runhub pause RUN                        give out no more tasks; also: resume, cancel
  runhub why TASK                         why nobody can claim it now
  runhub import beads issues.jsonl        a beads ledger becomes a run (with no server running)

Exit codes:
  0  done
  1  the server refused the call, or something failed
  2  the command line is wrong
  3  no server answers
  4  what was named does not exist";

#[derive(Subcommand)]
enum Command {
    /// Run the server (the default command)
    Serve(serve::ServeArgs),
    /// List the runs, the newest first
    Runs(runs::RunsArgs),
    /// Show a run and what is around it
    Show(show::ShowArgs),
    /// List the tasks of a run, in plan order
    Tasks(tasks::TasksArgs),
    /// Show events as they happen, through restarts of the server
    Watch(watch::WatchArgs),
    /// Say why a task can't be claimed now
    Why(why::WhyArgs),
    /// List what waits for a decision, the oldest first
    Approvals(approvals::ApprovalsArgs),
    /// Say yes to what is asked
    Approve(decide::ApproveArgs),
    /// Say no to what is asked, or not like this
    Reject(decide::RejectArgs),
    /// Give out no more tasks of a run; what agents hold goes on
    Pause(run_control::ControlArgs),
    /// Give a paused run the status it had before
    Resume(run_control::ControlArgs),
    /// End a run; agents get some time to finish what they hold
    Cancel(run_control::CancelArgs),
    /// Delete a run that has ended: its plan, its log, and all else of it, for good
    Delete(run_control::DeleteArgs),
    /// Measure how fast it is here, on a server of its own
    Bench(bench::BenchArgs),
    /// Bring in real work, into a database that no server has open
    Import(import::ImportArgs),
}

/// Where the server is, for every command that is a client.
#[derive(Args)]
struct ServerArgs {
    /// The server: http://HOST:PORT, HOST:PORT or unix:PATH
    #[arg(long, env = "RUNHUB_SERVER", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    server: String,
}

impl ServerArgs {
    /// A person is told at once what the matter is.
    async fn connect(&self) -> Result<Client, Failure> {
        let client = Client::connect(&self.server).await.map_err(|error| match error {
            Error::Address(_) => Failure::from(error),
            other => Failure::from(other).at(&self.server),
        })?;
        Ok(client.without_retry())
    }
}

/// Returns the definition of the command line, so that tests can check the commands that the pages show.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("can't start: {error}")).report(),
    };
    let done = runtime.block_on(run(cli));
    // A read that hangs in a blocking thread must not keep a server past its drain time.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        None => serve::run(cli.serve).await,
        Some(Command::Serve(args)) => serve::run(args).await,
        Some(Command::Runs(args)) => runs::run(args).await,
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}
