//! This module prints what an import of a beads ledger has done.

use std::collections::BTreeMap;
use std::io::Result;
use std::path::Path;

use super::ledger::Ledger;
use crate::cli::out::Out;
use crate::domain::task::TaskStatus;

/// Maximum number of missing dependencies that the summary lists.
const LISTED_DEPENDENCIES: usize = 20;

/// Contains the numbers of pending tasks of an imported run, by what they wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingCounts {
    /// Tasks that are claimable now.
    pub ready: usize,
    /// Tasks with a dependency that is not completed.
    pub waiting: usize,
    /// Tasks without such a dependency, whose `not_before_time` has not passed.
    pub delayed: usize,
}

/// Contains an import that has been written.
pub struct Summary<'a> {
    pub ledger: &'a Ledger,
    pub file: &'a Path,
    pub db: &'a Path,
    pub run_id: &'a str,
    pub pending: PendingCounts,
}

impl Summary<'_> {
    /// Prints the summary. Fails if the output can't be written.
    pub fn print(&self, out: &mut Out) -> Result<()> {
        let db = self.db.display();
        out.print_text(format_args!("Imported {} into {db} as run {}", self.file.display(), self.run_id))?;
        self.print_tasks(out)?;
        self.print_left_out_issues(out)?;
        self.print_dependencies(out)?;
        out.print_text(format_args!(
            "  kept as labels: id, status, type, parent, assignee, labels, other links (beads.*)"
        ))?;
        out.print_text(format_args!("  kept as summary: the reason for closing"))?;
        self.print_left_out_fields(out)?;
        self.print_repairs(out)?;
        out.print_text(format_args!("To see it:  runhub serve --db {db}   then   runhub show {}", self.run_id))
    }

    fn count(&self, status: TaskStatus) -> usize {
        self.ledger.issues.iter().filter(|issue| issue.status == status).count()
    }

    fn print_tasks(&self, out: &mut Out) -> Result<()> {
        let [completed, pending, blocked] =
            [TaskStatus::Completed, TaskStatus::Pending, TaskStatus::Blocked].map(|status| self.count(status));
        let tasks = self.ledger.issues.len();
        out.print_text(format_args!("  {tasks} tasks: {completed} completed, {pending} pending, {blocked} blocked"))?;
        let PendingCounts { ready, waiting, delayed } = self.pending;
        out.print_text(format_args!(
            "    pending: {ready} ready now, {waiting} wait for dependencies, {delayed} wait for a time"
        ))?;
        let mut signatures: BTreeMap<&str, usize> = BTreeMap::new();
        for signature in self.ledger.issues.iter().filter_map(|issue| issue.blocker_signature.as_deref()) {
            *signatures.entry(signature).or_default() += 1;
        }
        if signatures.is_empty() {
            return Ok(());
        }
        let counts: Vec<String> = signatures.iter().map(|(signature, count)| format!("{count} {signature}")).collect();
        out.print_text(format_args!("    blocked: {}", counts.join(", ")))
    }

    fn print_left_out_issues(&self, out: &mut Out) -> Result<()> {
        if self.ledger.deleted_count > 0 {
            out.print_text(format_args!("  {} deleted issues (tombstones) left out", self.ledger.deleted_count))?;
        }
        if self.ledger.skipped_count > 0 {
            out.print_text(format_args!("  {} issues with an unknown status left out", self.ledger.skipped_count))?;
        }
        Ok(())
    }

    fn print_dependencies(&self, out: &mut Out) -> Result<()> {
        let issues = &self.ledger.issues;
        let all: usize = issues.iter().map(|issue| issue.waits.dependencies.len()).sum();
        let own: usize = issues.iter().map(|issue| issue.waits.own_count).sum();
        let inherited = if all > own { format!(", {} of them from parents", all - own) } else { String::new() };
        out.print_text(format_args!("  {all} dependencies{inherited}"))?;
        if self.ledger.satisfied_count > 0 {
            let satisfied = self.ledger.satisfied_count;
            out.print_text(format_args!(
                "  {satisfied} dependencies on deleted issues left out, because they are satisfied"
            ))?;
        }
        let missing: Vec<_> = self.ledger.missing_dependencies().collect();
        if missing.is_empty() {
            return Ok(());
        }
        out.print_text(format_args!(
            "  {} dependencies on issues that are not imported, kept as labels:",
            missing.len()
        ))?;
        for (issue, target) in missing.iter().take(LISTED_DEPENDENCIES) {
            out.print_text(format_args!("    {issue} is blocked by {target}"))?;
        }
        match missing.len().saturating_sub(LISTED_DEPENDENCIES) {
            0 => Ok(()),
            rest => out.print_text(format_args!("    and {rest} more, each with the label beads.missing.ID")),
        }
    }

    fn print_left_out_fields(&self, out: &mut Out) -> Result<()> {
        let fields: Vec<String> =
            self.ledger.left_out_fields.iter().map(|(field, count)| format!("{field} ({count})")).collect();
        if fields.is_empty() {
            return Ok(());
        }
        out.print_text(format_args!("  left out, because tasks have no such field: {}", fields.join(", ")))
    }

    fn print_repairs(&self, out: &mut Out) -> Result<()> {
        let repairs = &self.ledger.repairs;
        if repairs.count() == 0 {
            return Ok(());
        }
        out.print_text(format_args!("  {} repairs, which --strict refuses:", repairs.count()))?;
        repairs.describe().try_for_each(|group| out.print_text(format_args!("    {group}")))
    }
}
