//! What keeps a task from being claimed.

use super::code::words;
use super::run::RunStatus;
use super::task::{Task, TaskStatus};
use super::time::Timestamp;

coded_enum! {
    /// What kind of thing is in the way.
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

/// One thing in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // The proto has them.
pub struct Obstacle {
    pub kind: ObstacleKind,
    pub detail: String,
    pub task_id: Option<String>,
    pub path: Option<String>,
    pub other_path: Option<String>,
    pub time: Option<Timestamp>,
}

impl Obstacle {
    /// One that is told of by its words alone.
    pub fn new(kind: ObstacleKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), task_id: None, path: None, other_path: None, time: None }
    }

    /// Nobody can have the task as long as this is there. An agent with the capabilities can.
    pub fn is_for_all(&self) -> bool {
        self.kind != ObstacleKind::Capability
    }
}

/// Where its run stands.
pub fn of_run(status: RunStatus) -> Option<Obstacle> {
    match status {
        RunStatus::Paused => Some(Obstacle::new(ObstacleKind::RunPaused, "its run is paused")),
        status if status.gives_out_tasks() => None,
        status => Some(Obstacle::new(ObstacleKind::RunEnded, format!("its run is {}", words(status.name())))),
    }
}

/// Where the task itself stands.
pub fn of_status(task: &Task) -> Option<Obstacle> {
    let mut detail = format!("it is {}", words(task.status.name()));
    let mut time = None;
    match task.status {
        TaskStatus::Pending => return None,
        TaskStatus::InProgress => {
            let agent = task.agent_id.as_deref().unwrap_or("somebody");
            time = task.lease.as_ref().map(|lease| lease.expire_time);
            detail = format!("{detail}, held by {agent}, attempt {}", task.attempt_count);
        }
        TaskStatus::Blocked => {
            let signature = task.blocker_signature.as_deref().unwrap_or("nobody has said why");
            detail = format!("{detail}: {signature}");
        }
        TaskStatus::Completed | TaskStatus::Abandoned => {}
    }
    Some(Obstacle { time, ..Obstacle::new(ObstacleKind::Status, detail) })
}

/// Its time.
pub fn of_time(task: &Task, now: Timestamp) -> Option<Obstacle> {
    let time = task.spec.not_before_time.filter(|time| *time > now)?;
    let detail = format!("it is not given out before {}", time.to_text());
    Some(Obstacle { time: Some(time), ..Obstacle::new(ObstacleKind::Time, detail) })
}

/// Who can have it.
pub fn of_capabilities(task: &Task) -> Option<Obstacle> {
    let required = &task.spec.required_capabilities;
    let detail = format!("only an agent with these capabilities can have it: {}", required.join(", "));
    (!required.is_empty()).then(|| Obstacle::new(ObstacleKind::Capability, detail))
}
