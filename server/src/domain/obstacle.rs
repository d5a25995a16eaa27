//! This module defines obstacles, which are the reasons why a task can't be claimed now.

use super::code::lowercase_words;
use super::run::RunStatus;
use super::system_event::truncate_title;
use super::task::{Task, TaskStatus};
use super::time::Timestamp;

coded_enum! {
    /// Lists the kinds of obstacles.
    ObstacleKind {
        Status = 1 "OBSTACLE_KIND_STATUS",
        Dependency = 2 "OBSTACLE_KIND_DEPENDENCY",
        Time = 3 "OBSTACLE_KIND_TIME",
        Paths = 4 "OBSTACLE_KIND_PATHS",
        Capability = 5 "OBSTACLE_KIND_CAPABILITY",
        RunPaused = 6 "OBSTACLE_KIND_RUN_PAUSED",
        RunEnded = 7 "OBSTACLE_KIND_RUN_ENDED",
    }
}

/// Represents one reason why a task can't be claimed now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto documents them.
pub struct Obstacle {
    pub kind: ObstacleKind,
    pub detail: String,
    pub task_id: Option<String>,
    pub path: Option<String>,
    pub other_path: Option<String>,
    pub time: Option<Timestamp>,
}

impl Obstacle {
    fn new(kind: ObstacleKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), task_id: None, path: None, other_path: None, time: None }
    }

    /// Returns whether the obstacle prevents every agent from claiming the task. A required capability prevents only
    /// the agents that do not have the capability.
    pub fn applies_to_every_agent(&self) -> bool {
        self.kind != ObstacleKind::Capability
    }
}

/// Returns the obstacle that the status of a run causes, or None if the tasks of the run can be claimed.
pub fn run_obstacle(status: RunStatus) -> Option<Obstacle> {
    if status.allows_claims() {
        return None;
    }
    if status == RunStatus::Paused {
        return Some(Obstacle::new(ObstacleKind::RunPaused, "its run is paused"));
    }
    Some(Obstacle::new(ObstacleKind::RunEnded, format!("its run is {}", lowercase_words(status.name()))))
}

/// Returns the obstacle that the status of a task causes, or None if the task is pending.
pub fn status_obstacle(task: &Task) -> Option<Obstacle> {
    let status = lowercase_words(task.status.name());
    let detail = match task.status {
        TaskStatus::Pending => return None,
        TaskStatus::InProgress => {
            format!("it is {status}, held by {}, attempt {}", holder_name(task), task.attempt_count)
        }
        TaskStatus::Blocked => {
            format!("it is {status}: {}", task.blocker_signature.as_deref().unwrap_or("no blocker_signature is set"))
        }
        TaskStatus::Completed | TaskStatus::Abandoned => format!("it is {status}"),
    };
    let lease = task.lease.as_ref().filter(|_| task.is_held());
    let time = lease.map(|lease| lease.expire_time);
    Some(Obstacle { time, ..Obstacle::new(ObstacleKind::Status, detail) })
}

/// Returns the obstacle that an open dependency causes. `is_direct` is false for a dependency of a dependency.
pub fn dependency_obstacle(id: String, title: &str, status: TaskStatus, is_direct: bool) -> Obstacle {
    let relation = if is_direct { "it depends on" } else { "it depends indirectly on" };
    let detail = format!("{relation} {:?}, which is {}", truncate_title(title), lowercase_words(status.name()));
    Obstacle { task_id: Some(id), ..Obstacle::new(ObstacleKind::Dependency, detail) }
}

/// Returns the obstacle that a `not_before_time` in the future causes, or None if the task is due.
pub fn time_obstacle(task: &Task, now: Timestamp) -> Option<Obstacle> {
    let time = task.delay_end(now)?;
    let detail = format!("it can't be claimed before {}", time.to_text());
    Some(Obstacle { time: Some(time), ..Obstacle::new(ObstacleKind::Time, detail) })
}

/// Returns the obstacle that a leased task with an overlapping path causes.
pub fn paths_obstacle(path: String, other_path: String, holder: Task) -> Obstacle {
    let detail = format!(
        "{path} overlaps with {other_path} of {:?}, held by {}",
        truncate_title(&holder.spec.title),
        holder_name(&holder)
    );
    Obstacle {
        task_id: Some(holder.id),
        path: Some(path),
        other_path: Some(other_path),
        time: holder.lease.map(|lease| lease.expire_time),
        ..Obstacle::new(ObstacleKind::Paths, detail)
    }
}

/// Returns the obstacle that required capabilities cause, or None if the task requires no capabilities.
pub fn capabilities_obstacle(task: &Task) -> Option<Obstacle> {
    let required = &task.spec.required_capabilities;
    if required.is_empty() {
        return None;
    }
    let detail = format!("only an agent with these capabilities can claim it: {}", required.join(", "));
    Some(Obstacle::new(ObstacleKind::Capability, detail))
}

fn holder_name(task: &Task) -> &str {
    task.agent_id.as_deref().unwrap_or("an unknown agent")
}
