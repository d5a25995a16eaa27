//! The snapshot of a run as the API returns it.

use prost::Message;
use runhub_api::v1;

use super::convert::protos;
use super::{field, page};
use crate::actions::snapshot::{self, Snapshot, SnapshotLimits};
use crate::domain::limits;
use crate::error::Result;
use crate::store::Tx;

/// Maximum size of the tag and the length around a snapshot in its response.
const OVERHEAD: usize = 8;

/// Parses the limits of a request.
pub fn parse_limits(request: &v1::GetRunSnapshotRequest) -> Result<SnapshotLimits> {
    let tasks = usize::try_from(field::count("task_limit", request.task_limit)?).unwrap_or(0);
    Ok(SnapshotLimits {
        events: page::list_length("event_limit", request.event_limit, limits::DEFAULT_EVENTS)?,
        attempts: page::list_length("attempt_limit", request.attempt_limit, limits::DEFAULT_ATTEMPTS)?,
        tasks: if tasks == 0 { usize::MAX } else { tasks },
    })
}

/// Takes the snapshot of a run. It is converted on the reader's thread, because it may be large. Fails if it is over
/// `limits::SNAPSHOT_BYTES`.
pub fn take(tx: &mut dyn Tx, run_id: &str, limits: SnapshotLimits) -> Result<v1::RunSnapshot> {
    let snapshot = to_proto(snapshot::take(tx, run_id, limits)?);
    if snapshot.encoded_len() + OVERHEAD > limits::SNAPSHOT_BYTES {
        return Err(snapshot::too_large(run_id));
    }
    Ok(snapshot)
}

fn to_proto(snapshot: Snapshot) -> v1::RunSnapshot {
    v1::RunSnapshot {
        run: Some(snapshot.run.into()),
        agents: protos(snapshot.agents),
        pending_tasks: protos(snapshot.pending_tasks),
        in_progress_tasks: protos(snapshot.in_progress_tasks),
        completed_tasks: protos(snapshot.completed_tasks),
        blocked_tasks: protos(snapshot.blocked_tasks),
        recent_attempts: protos(snapshot.recent_attempts),
        recent_events: protos(snapshot.recent_events),
        approvals: protos(snapshot.approvals),
        artifacts: protos(snapshot.artifacts),
        position: snapshot.position,
    }
}
