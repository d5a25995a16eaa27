//! This module creates and lists the artifacts of a run.

use crate::domain::artifact::{Artifact, ArtifactDraft};
use crate::domain::system_event;
use crate::error::Result;
use crate::store::{Limit, Page, Tx, artifacts, events, runs, tasks};

/// Creates an artifact and returns the new artifact. Fails if the run does not exist, or if the artifact's task belongs
/// to another run.
pub fn create(tx: &mut dyn Tx, draft: &ArtifactDraft) -> Result<Artifact> {
    let run_key = runs::get_key(tx, &draft.run_id)?;
    let task_key = draft.task_id.as_deref().map(|id| tasks::get_key_in_run(tx, run_key, id)).transpose()?;
    let artifact = Artifact::new(tx.next_key()?, tx.new_id(), draft.clone(), tx.now());
    artifacts::insert(tx, run_key, task_key, &artifact)?;
    events::append(tx, run_key, &system_event::artifact_created(&artifact, task_key))?;
    Ok(artifact)
}

/// Returns a page of a run's artifacts, ordered from oldest to newest. The page starts after the artifact with the key
/// `after`. If `role` is set, the page contains only the artifacts of that role. Fails if the run does not exist.
pub fn list(tx: &mut dyn Tx, run_id: &str, role: Option<&str>, after: i64, limit: Limit) -> Result<Page<Artifact>> {
    let run_key = runs::get_key(tx, run_id)?;
    artifacts::list(tx, run_key, role, after, limit)
}
