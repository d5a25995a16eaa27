//! This module joins the parts of a run's snapshot. The server splits a snapshot into parts that each fit into one
//! message.

use crate::v1::RunSnapshot;

impl RunSnapshot {
    /// Appends the entries of `part`, the next part of the snapshot, to this snapshot. The first part contains the run,
    /// and the last part contains the position. A list may continue in the next part.
    pub fn append(&mut self, part: Self) {
        self.run = part.run.or(self.run.take());
        self.agents.extend(part.agents);
        self.pending_tasks.extend(part.pending_tasks);
        self.in_progress_tasks.extend(part.in_progress_tasks);
        self.completed_tasks.extend(part.completed_tasks);
        self.blocked_tasks.extend(part.blocked_tasks);
        self.recent_attempts.extend(part.recent_attempts);
        self.recent_events.extend(part.recent_events);
        self.approvals.extend(part.approvals);
        self.artifacts.extend(part.artifacts);
        self.position = part.position;
        self.log_id = part.log_id;
    }
}
