//! This module implements `runhub import beads`, which imports a beads ledger as one run.

mod ledger;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;

use self::ledger::{Issue, Ledger};
use super::{Failure, TargetArgs, import, import_digest, import_failure, read_file, record_import};
use crate::cli::progress;
use crate::domain::plan::{self, Dependency};
use crate::domain::run::{Run, RunDraft};
use crate::domain::system_event;
use crate::domain::task::{Task, TaskStatus};
use crate::domain::{Labels, field, limits};
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
}

pub async fn run(args: BeadsArgs) -> Result<(), Failure> {
    let bytes = read_file(&args.file)?;
    let ledger = Ledger::parse(&bytes).map_err(|error| import_failure(&args.file, error))?;
    let draft = run_draft(&args).map_err(|error| import_failure(&args.file, error))?;
    let bar = progress::new_progress_bar(ledger.issues.len());
    let content = Arc::new(Import { ledger, draft, digest: import_digest("beads", &bytes), bar });
    let to_write = Arc::clone(&content);
    let run_id = import(&args.file, &args.target, &content.bar, move |tx| to_write.write(tx)).await?;
    print_summary(&content.ledger, &run_id, &args)
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
    /// Writes the run with its tasks and events, and returns the run's id. Fails if the ledger was imported before,
    /// or if the dependencies form a cycle.
    fn write(&self, tx: &mut dyn Tx) -> Result<String> {
        record_import(tx, &self.digest, "beads", 1)?;
        let dependencies = plan::resolve(&self.ledger.drafts(), &Default::default())?;
        let run = Run::new(tx.next_key()?, tx.new_id(), self.draft.clone(), tx.now());
        runs::insert(tx, &run)?;
        events::append(tx, run.key, &system_event::run_imported(&run, "beads"))?;
        let tasks = self.write_tasks(tx, &run, &dependencies)?;
        for chunk in tasks.chunks(limits::BATCH_ENTRIES) {
            events::append(tx, run.key, &system_event::tasks_added(chunk, run.plan_version))?;
        }
        Ok(run.id)
    }

    fn write_tasks(&self, tx: &mut dyn Tx, run: &Run, dependencies: &[Vec<Dependency>]) -> Result<Vec<Task>> {
        self.bar.set_position(0);
        self.bar.set_message("tasks");
        let count = i32::try_from(self.ledger.issues.len()).map_err(Error::internal)?;
        let first = runs::assign_ordinals(tx, run.key, count)? - count + 1;
        let mut tasks = Vec::with_capacity(self.ledger.issues.len());
        for (ordinal, issue) in (first..).zip(&self.ledger.issues) {
            tasks.push(new_task(tx, run, ordinal, issue)?);
            self.bar.inc(1);
        }
        store::tasks::insert_with_dependencies(tx, &mut tasks, dependencies)?;
        Ok(tasks)
    }
}

fn new_task(tx: &mut dyn Tx, run: &Run, ordinal: i32, issue: &Issue) -> Result<Task> {
    let key = tx.next_key()?;
    let task = Task::new(key, tx.new_id(), run, ordinal, issue.spec.clone(), tx.now());
    let status = if issue.is_closed { TaskStatus::Completed } else { TaskStatus::Pending };
    Ok(Task {
        status,
        implementation_summary: issue.close_reason.clone(),
        create_time: issue.create_time.unwrap_or(task.create_time),
        update_time: issue.update_time.unwrap_or(task.update_time),
        ..task
    })
}

fn print_summary(ledger: &Ledger, run_id: &str, args: &BeadsArgs) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let closed = ledger.issues.iter().filter(|issue| issue.is_closed).count();
    let dependencies: usize = ledger.issues.iter().map(|issue| issue.blocked_by.len()).sum();
    let missing: Vec<_> = ledger.missing_dependencies().collect();
    writeln!(out, "Imported {} into {} as run {run_id}", args.file.display(), args.target.db.display())?;
    writeln!(out, "  {} tasks: {closed} completed, {} pending", ledger.issues.len(), ledger.issues.len() - closed)?;
    writeln!(out, "  {dependencies} dependencies")?;
    writeln!(out, "  kept as labels: id, status, type, parent, assignee, labels, other links (beads.*)")?;
    writeln!(out, "  kept as summary: the reason for closing")?;
    if !missing.is_empty() {
        writeln!(out, "  {} dependencies on issues that are not in the ledger, kept as labels:", missing.len())?;
        for (issue, target) in missing {
            writeln!(out, "    {issue} is blocked by {target}")?;
        }
    }
    print_left_out_fields(&mut out, &ledger.left_out)?;
    writeln!(out, "To see it:  runhub serve --db {}   then   runhub show {run_id}", args.target.db.display())?;
    Ok(())
}

fn print_left_out_fields(out: &mut impl Write, left_out: &BTreeMap<String, usize>) -> std::io::Result<()> {
    if left_out.is_empty() {
        return Ok(());
    }
    let fields: Vec<String> = left_out.iter().map(|(field, count)| format!("{field} ({count})")).collect();
    writeln!(out, "  left out, because tasks have no such field: {}", fields.join(", "))
}
