//! This module converts the snapshot of a run to a message of the API.

use prost::Message;
use runhub_api::v1;

use super::convert::to_protos;
use super::{field, page};
use crate::actions::snapshot::{self, Snapshot, SnapshotLimits};
use crate::domain::limits;
use crate::error::Result;
use crate::store::Tx;

/// Maximum size of the tag and the length before a snapshot in a response, in bytes.
const OVERHEAD: usize = 8;

/// Parses the limits of a snapshot request. Fails if a limit is negative.
pub fn parse_limits(request: &v1::GetRunSnapshotRequest) -> Result<SnapshotLimits> {
    let tasks = usize::try_from(field::count("task_limit", request.task_limit)?).unwrap_or(0);
    Ok(SnapshotLimits {
        events: page::parse_list_length("event_limit", request.event_limit, limits::DEFAULT_EVENTS)?,
        attempts: page::parse_list_length("attempt_limit", request.attempt_limit, limits::DEFAULT_ATTEMPTS)?,
        tasks: if tasks == 0 { usize::MAX } else { tasks },
    })
}

/// Reads the snapshot of a run and returns the snapshot as a message of the API. Runs on a reader's thread, because the
/// conversion of a large snapshot is slow. Fails if the response would be larger than `limits::SNAPSHOT_BYTES`.
pub fn take(tx: &mut dyn Tx, run_id: &str, limits: SnapshotLimits) -> Result<v1::RunSnapshot> {
    let snapshot = to_proto(snapshot::take(tx, run_id, limits)?);
    if snapshot.encoded_len() + OVERHEAD > limits::SNAPSHOT_BYTES {
        return Err(snapshot::new_too_large_error(run_id));
    }
    Ok(snapshot)
}

fn to_proto(snapshot: Snapshot) -> v1::RunSnapshot {
    v1::RunSnapshot {
        run: Some(snapshot.run.into()),
        agents: to_protos(snapshot.agents),
        pending_tasks: to_protos(snapshot.pending_tasks),
        in_progress_tasks: to_protos(snapshot.in_progress_tasks),
        completed_tasks: to_protos(snapshot.completed_tasks),
        blocked_tasks: to_protos(snapshot.blocked_tasks),
        recent_attempts: to_protos(snapshot.recent_attempts),
        recent_events: to_protos(snapshot.recent_events),
        approvals: to_protos(snapshot.approvals),
        artifacts: to_protos(snapshot.artifacts),
        position: snapshot.position,
    }
}
