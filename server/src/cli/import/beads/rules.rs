//! This module decides what an issue of a ledger becomes. The rules give agents the issues that `bd ready` would show.

use clap::ValueEnum;

use super::line::IssueLine;

/// The kinds of issues that are not work. Beads uses these kinds to group work, and for its own bookkeeping.
const KINDS_WITHOUT_WORK: [&str; 11] =
    ["epic", "event", "message", "agent", "role", "rig", "molecule", "gate", "convoy", "wisp", "merge-request"];

/// The blocker signature of a task for an issue that is not work.
pub const NOT_WORK: &str = "beads_not_work";

/// Lists what the import can do with issues whose status beads does not define.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UnknownStatus {
    /// Import the issues like open issues.
    Pending,
    /// Import the issues as BLOCKED tasks with the blocker signature beads_STATUS.
    Blocked,
    /// Leave the issues out.
    Skip,
}

/// Contains the options that change what an issue becomes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Whether the issues that an agent of beads holds become pending tasks.
    pub reclaim: bool,
    /// Whether wisps, which beads marks as ephemeral, count as work.
    pub include_ephemeral: bool,
    /// The outcome for issues with an unknown status. If None, the ledger is refused.
    pub unknown_status: Option<UnknownStatus>,
}

/// Lists what an issue can become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A completed task.
    Completed,
    /// A pending task. Agents can claim the task once its dependencies are completed and its `not_before_time` has
    /// passed.
    Pending,
    /// A blocked task with this blocker signature.
    Blocked(String),
    /// No task, because the issue is deleted. A dependency on the issue is satisfied.
    Deleted,
    /// No task, because the status is unknown and the user leaves such issues out.
    Skipped,
}

impl Rules {
    /// Returns what an issue becomes, or None if the status is unknown and no option says what the issue becomes.
    pub fn outcome(&self, line: &IssueLine) -> Option<Outcome> {
        let by_status = match line.status.as_str() {
            "tombstone" => return Some(Outcome::Deleted),
            "closed" => return Some(Outcome::Completed),
            "open" => Outcome::Pending,
            "deferred" if line.defer_until.is_some() => Outcome::Pending,
            "in_progress" | "hooked" if self.reclaim => Outcome::Pending,
            "blocked" | "in_progress" | "hooked" | "pinned" | "deferred" => blocked_by_status(&line.status),
            unknown => match self.unknown_status? {
                UnknownStatus::Pending => Outcome::Pending,
                UnknownStatus::Blocked => blocked_by_status(unknown),
                UnknownStatus::Skip => return Some(Outcome::Skipped),
            },
        };
        Some(match by_status {
            _ if !self.is_work(line) => Outcome::Blocked(NOT_WORK.to_owned()),
            Outcome::Pending if line.is_pinned => blocked_by_status("pinned"),
            other => other,
        })
    }

    fn is_work(&self, line: &IssueLine) -> bool {
        let is_wisp = line.is_ephemeral && !self.include_ephemeral;
        !KINDS_WITHOUT_WORK.contains(&line.kind.as_str()) && !line.is_template && !is_wisp
    }
}

fn blocked_by_status(status: &str) -> Outcome {
    Outcome::Blocked(format!("beads_{status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: &str, kind: &str) -> IssueLine {
        IssueLine { status: status.into(), kind: kind.into(), ..IssueLine::default() }
    }

    fn blocked(signature: &str) -> Option<Outcome> {
        Some(Outcome::Blocked(signature.into()))
    }

    const RULES: Rules = Rules { reclaim: false, include_ephemeral: false, unknown_status: None };

    #[test]
    fn status_decides_what_work_becomes() {
        for (status, expected) in [
            ("open", Some(Outcome::Pending)),
            ("closed", Some(Outcome::Completed)),
            ("tombstone", Some(Outcome::Deleted)),
            ("blocked", blocked("beads_blocked")),
            ("in_progress", blocked("beads_in_progress")),
            ("hooked", blocked("beads_hooked")),
            ("pinned", blocked("beads_pinned")),
            ("deferred", blocked("beads_deferred")),
            ("review", None),
            ("Open", None),
        ] {
            assert_eq!(RULES.outcome(&line(status, "task")), expected, "{status}");
        }
        let until = IssueLine { defer_until: Some("2030-01-01T00:00:00Z".into()), ..line("deferred", "task") };
        assert_eq!(RULES.outcome(&until), Some(Outcome::Pending));
    }

    #[test]
    fn reclaim_makes_only_held_issues_pending() {
        let reclaim = Rules { reclaim: true, ..RULES };
        for status in ["in_progress", "hooked"] {
            assert_eq!(reclaim.outcome(&line(status, "bug")), Some(Outcome::Pending), "{status}");
        }
        assert_eq!(reclaim.outcome(&line("hooked", "epic")), blocked(NOT_WORK));
        for status in ["blocked", "pinned", "deferred", "closed", "tombstone", "review"] {
            assert_eq!(reclaim.outcome(&line(status, "bug")), RULES.outcome(&line(status, "bug")), "{status}");
        }
    }

    #[test]
    fn kinds_that_are_not_work_become_blocked_unless_they_are_closed_or_deleted() {
        for kind in KINDS_WITHOUT_WORK {
            for status in ["open", "in_progress", "deferred"] {
                assert_eq!(RULES.outcome(&line(status, kind)), blocked(NOT_WORK), "{kind} {status}");
            }
            assert_eq!(RULES.outcome(&line("closed", kind)), Some(Outcome::Completed), "{kind}");
            assert_eq!(RULES.outcome(&line("tombstone", kind)), Some(Outcome::Deleted), "{kind}");
        }
        for kind in ["", "task", "bug", "feature", "chore", "docs", "spike", "my-kind"] {
            assert_eq!(RULES.outcome(&line("open", kind)), Some(Outcome::Pending), "{kind}");
        }
    }

    #[test]
    fn pinned_issues_and_templates_are_not_claimable() {
        let pinned = IssueLine { is_pinned: true, ..line("open", "task") };
        assert_eq!(RULES.outcome(&pinned), blocked("beads_pinned"));
        let template = IssueLine { is_template: true, ..line("open", "task") };
        assert_eq!(RULES.outcome(&template), blocked(NOT_WORK));
    }

    #[test]
    fn wisps_are_work_only_with_the_option() {
        let wisp = |status, kind| IssueLine { is_ephemeral: true, ..line(status, kind) };
        let all = Rules { include_ephemeral: true, ..RULES };
        assert_eq!(RULES.outcome(&wisp("open", "task")), blocked(NOT_WORK));
        assert_eq!(RULES.outcome(&wisp("closed", "task")), Some(Outcome::Completed));
        assert_eq!(all.outcome(&wisp("open", "task")), Some(Outcome::Pending));
        assert_eq!(all.outcome(&wisp("open", "epic")), blocked(NOT_WORK));
    }

    #[test]
    fn option_decides_what_issues_with_an_unknown_status_become() {
        for (option, work, epic) in [
            (UnknownStatus::Pending, Some(Outcome::Pending), blocked(NOT_WORK)),
            (UnknownStatus::Blocked, blocked("beads_review"), blocked(NOT_WORK)),
            (UnknownStatus::Skip, Some(Outcome::Skipped), Some(Outcome::Skipped)),
        ] {
            let rules = Rules { unknown_status: Some(option), ..RULES };
            assert_eq!(rules.outcome(&line("review", "task")), work, "{option:?}");
            assert_eq!(rules.outcome(&line("review", "epic")), epic, "{option:?}");
        }
    }
}
