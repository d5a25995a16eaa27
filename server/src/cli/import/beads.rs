//! This module implements `runhub import beads`, which imports a beads ledger as one run.

mod fields;
mod graph;
mod ledger;
mod line;
mod repairs;
mod rules;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;

use self::ledger::{Issue, Ledger};
use self::rules::{Rules, UnknownStatus};
use self::summary::{PendingCounts, Summary};
use super::{Failure, TargetArgs, import, import_digest, import_failure, read_file, record_import};
use crate::cli::out::Out;
use crate::cli::progress;
use crate::domain::plan::Dependency;
use crate::domain::run::{Run, RunDraft};
use crate::domain::task::{Task, TaskStatus};
use crate::domain::time::Timestamp;
use crate::domain::{Labels, field, limits, system_event};
use crate::error::{Error, Result};
use crate::store::{self, Tx, events, runs};

#[derive(Args)]
pub struct BeadsArgs {
    /// The ledger file, which contains one JSON object per line.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    target: TargetArgs,

    /// The goal of the imported run.
    #[arg(long, value_name = "TEXT", default_value = "Finish the work in the beads ledger")]
    goal: String,

    /// The repo_path of the imported run. Default: the folder of the ledger file.
    #[arg(long, value_name = "PATH")]
    repo_path: Option<String>,

    /// Import in_progress and hooked issues as pending tasks. Default: as BLOCKED tasks, because an agent of beads may
    /// still work on these issues.
    #[arg(long)]
    reclaim: bool,

    /// Import open wisps (ephemeral issues) as pending tasks. Default: as BLOCKED tasks, because `bd ready` shows wisps
    /// only with its option of the same name.
    #[arg(long)]
    include_ephemeral: bool,

    /// The outcome for issues whose status beads does not define. Default: refuse the ledger.
    #[arg(long, value_name = "OUTCOME")]
    unknown_status: Option<UnknownStatus>,

    /// Refuse a ledger that needs a repair, for example the removal of a byte order mark. Default: repair and report.
    #[arg(long)]
    strict: bool,
}

pub async fn run(args: BeadsArgs) -> Result<(), Failure> {
    let bytes = read_file(&args.file)?;
    let ledger = read_ledger(&args, &bytes).map_err(|error| import_failure(&args.file, error))?;
    let draft = run_draft(&args).map_err(|error| import_failure(&args.file, error))?;
    let bar = progress::new_progress_bar(ledger.issues.len());
    let content = Arc::new(Import { ledger, draft, digest: import_digest("beads", &bytes), bar });
    let to_write = Arc::clone(&content);
    let (run_id, pending) = import(&args.file, &args.target, &content.bar, move |tx| to_write.write(tx)).await?;
    let ledger = &content.ledger;
    let summary = Summary { ledger, file: &args.file, db: &args.target.db, run_id: &run_id, pending };
    summary.print(&mut Out::stdout())?;
    Ok(())
}

fn read_ledger(args: &BeadsArgs, bytes: &[u8]) -> Result<Ledger> {
    let rules =
        Rules { reclaim: args.reclaim, include_ephemeral: args.include_ephemeral, unknown_status: args.unknown_status };
    let ledger = Ledger::parse(bytes, &rules)?;
    if args.strict {
        ledger.repairs.refuse()?;
    }
    Ok(ledger)
}

fn run_draft(args: &BeadsArgs) -> Result<RunDraft> {
    let repo_path = args.repo_path.clone().unwrap_or_else(|| parent_folder(&args.file));
    Ok(RunDraft {
        goal: field::required_text("goal", &args.goal)?,
        repo_path: field::path("repo_path", &repo_path)?,
        labels: Labels::new(),
    })
}

fn parent_folder(file: &Path) -> String {
    let folder = file.canonicalize().ok().and_then(|file| file.parent().map(Path::to_owned));
    folder.unwrap_or_default().display().to_string()
}

struct Import {
    ledger: Ledger,
    draft: RunDraft,
    digest: String,
    bar: ProgressBar,
}

impl Import {
    /// Writes the run with its tasks and events, and returns the run's id and the numbers of pending tasks. Fails if
    /// the ledger was imported before.
    fn write(&self, tx: &mut dyn Tx) -> Result<(String, PendingCounts)> {
        record_import(tx, &self.digest, "beads", 1)?;
        let run = Run::new(tx.next_key()?, tx.new_id(), self.draft.clone(), tx.now());
        runs::insert(tx, &run)?;
        events::append(tx, run.key, &system_event::run_imported(&run, "beads"))?;
        let tasks = self.write_tasks(tx, &run)?;
        for chunk in tasks.chunks(limits::BATCH_ENTRIES) {
            events::append(tx, run.key, &system_event::tasks_added(chunk, run.plan_version))?;
        }
        Ok((run.id, count_pending(&tasks, tx.now())))
    }

    fn write_tasks(&self, tx: &mut dyn Tx, run: &Run) -> Result<Vec<Task>> {
        self.bar.set_position(0);
        self.bar.set_message("tasks");
        let issues = &self.ledger.issues;
        let count = i32::try_from(issues.len()).map_err(Error::internal)?;
        let first = runs::assign_ordinals(tx, run.key, count)? - count + 1;
        let mut tasks = Vec::with_capacity(issues.len());
        for (ordinal, issue) in (first..).zip(issues) {
            tasks.push(new_task(tx, run, ordinal, issue)?);
            self.bar.inc(1);
        }
        let dependencies_of = |issue: &Issue| issue.waits.dependencies.iter().copied().map(Dependency::Draft).collect();
        let dependencies: Vec<Vec<Dependency>> = issues.iter().map(dependencies_of).collect();
        store::tasks::insert_with_dependencies(tx, &mut tasks, &dependencies)?;
        Ok(tasks)
    }
}

fn new_task(tx: &mut dyn Tx, run: &Run, ordinal: i32, issue: &Issue) -> Result<Task> {
    let key = tx.next_key()?;
    let task = Task::new(key, tx.new_id(), run, ordinal, issue.spec.clone(), tx.now());
    Ok(Task {
        status: issue.status,
        blocker_signature: issue.blocker_signature.clone(),
        implementation_summary: issue.close_reason.clone(),
        create_time: issue.create_time.unwrap_or(task.create_time),
        update_time: issue.update_time.unwrap_or(task.update_time),
        ..task
    })
}

fn count_pending(tasks: &[Task], now: Timestamp) -> PendingCounts {
    let pending = || tasks.iter().filter(|task| task.status == TaskStatus::Pending);
    let ready = pending().filter(|task| task.is_ready(now)).count();
    let waiting = pending().filter(|task| task.open_dependencies > 0).count();
    PendingCounts { ready, waiting, delayed: pending().count() - ready - waiting }
}
