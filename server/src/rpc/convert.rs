//! This module converts domain types to the types of the API.

use std::time::Duration;

use prost_types::Timestamp as ProtoTimestamp;
use runhub_api::v1;

use super::value::json_to_proto;
use crate::actions::lease::HeartbeatResult;
use crate::actions::obstacle::Unclaimable;
use crate::domain::agent::AgentState;
use crate::domain::approval::Approval;
use crate::domain::artifact::Artifact;
use crate::domain::attempt::TaskAttempt;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::event::Event;
use crate::domain::obstacle::Obstacle;
use crate::domain::run::Run;
use crate::domain::task::Task;
use crate::domain::time::Timestamp;

impl From<Timestamp> for ProtoTimestamp {
    fn from(time: Timestamp) -> Self {
        let (seconds, nanos) = time.seconds_and_nanos();
        Self { seconds, nanos }
    }
}

/// Converts a duration to a field of a message. Returns None if protobuf can't represent the duration.
pub fn duration_to_proto(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

fn timestamp_to_proto(time: Timestamp) -> Option<ProtoTimestamp> {
    Some(time.into())
}

impl From<Run> for v1::Run {
    fn from(run: Run) -> Self {
        Self {
            id: run.id,
            goal: run.goal,
            repo_path: run.repo_path,
            labels: run.labels,
            status: run.status.code(),
            status_reason: run.status_reason,
            summary: run.summary,
            cycle_count: run.cycle_count,
            replan_count: run.replan_count,
            plan_version: run.plan_version,
            current_task_id: run.current_task_id,
            revision: run.revision,
            create_time: timestamp_to_proto(run.create_time),
            update_time: timestamp_to_proto(run.update_time),
        }
    }
}

impl From<Task> for v1::Task {
    fn from(task: Task) -> Self {
        // A task that is not in progress may still store an expired lease, which identifies the former holder. Callers
        // must not see the expired lease.
        let lease = task.lease.as_ref().filter(|_| task.is_held());
        let lease_expire_time = lease.map(|lease| lease.expire_time.into());
        let spec = task.spec;
        Self {
            id: task.id,
            run_id: task.run_id,
            ordinal: task.ordinal,
            title: spec.title,
            objective: spec.objective,
            acceptance_criteria: spec.acceptance_criteria,
            verification_steps: spec.verification_steps,
            allowed_paths: spec.allowed_paths,
            depends_on: task.depends_on,
            required_capabilities: spec.required_capabilities,
            priority: spec.priority,
            labels: spec.labels,
            max_attempts: spec.max_attempts,
            not_before_time: spec.not_before_time.map(Into::into),
            status: task.status.code(),
            attempt_count: task.attempt_count,
            failure_count: task.failure_count,
            implementation_summary: task.implementation_summary,
            blocker_signature: task.blocker_signature,
            agent_id: task.agent_id,
            lease_expire_time,
            plan_version: task.plan_version,
            revision: task.revision,
            create_time: timestamp_to_proto(task.create_time),
            update_time: timestamp_to_proto(task.update_time),
        }
    }
}

impl From<TaskAttempt> for v1::TaskAttempt {
    fn from(attempt: TaskAttempt) -> Self {
        Self {
            id: attempt.id,
            run_id: attempt.run_id,
            task_id: attempt.task_id,
            attempt_number: attempt.attempt_number,
            agent_id: attempt.agent_id,
            status: attempt.status.code(),
            summary: attempt.summary,
            blocker_signature: attempt.blocker_signature,
            result: json_to_proto(&attempt.result),
            progress: json_to_proto(&attempt.progress),
            create_time: timestamp_to_proto(attempt.create_time),
            end_time: attempt.end_time.map(Into::into),
        }
    }
}

impl From<Event> for v1::Event {
    fn from(event: Event) -> Self {
        Self {
            position: event.position,
            seq: event.seq,
            run_id: event.run_id,
            task_id: event.task_id,
            source: event.source,
            kind: event.kind,
            message: event.message,
            payload: json_to_proto(&event.payload),
            create_time: timestamp_to_proto(event.create_time),
        }
    }
}

impl From<AgentState> for v1::AgentState {
    fn from(state: AgentState) -> Self {
        Self {
            run_id: state.run_id,
            role: state.role,
            session_id: state.session_id,
            turns: state.turns,
            rotation_count: state.rotation_count,
            last_prompt_path: state.last_prompt_path,
            last_response_path: state.last_response_path,
            revision: state.revision,
            update_time: timestamp_to_proto(state.update_time),
        }
    }
}

impl From<Approval> for v1::Approval {
    fn from(approval: Approval) -> Self {
        Self {
            id: approval.id,
            run_id: approval.run_id,
            task_id: approval.task_id,
            source: approval.source,
            verdict: approval.verdict.code(),
            title: approval.title,
            rationale: approval.rationale,
            payload: json_to_proto(&approval.payload),
            requested_by: approval.requested_by,
            subject_digest: approval.subject_digest,
            on_expiry: approval.on_expiry.code(),
            expire_time: approval.expire_time.map(Into::into),
            decide_time: approval.decide_time.map(Into::into),
            consume_time: approval.consume_time.map(Into::into),
            revision: approval.revision,
            create_time: timestamp_to_proto(approval.create_time),
        }
    }
}

impl From<HeartbeatResult> for v1::BeatResult {
    fn from(result: HeartbeatResult) -> Self {
        Self { state: result.state.code(), lease_expire_time: result.expire_time.map(Into::into) }
    }
}

impl From<Unclaimable> for v1::Unclaimable {
    fn from(counted: Unclaimable) -> Self {
        Self {
            pending: counted.pending,
            waiting_on_dependency: counted.waiting_on_dependency,
            waiting_on_time: counted.waiting_on_time,
            waiting_on_paths: counted.waiting_on_paths,
            missing_capability: counted.missing_capability,
            run_paused: counted.run_paused,
        }
    }
}

impl From<Obstacle> for v1::Obstacle {
    fn from(obstacle: Obstacle) -> Self {
        Self {
            kind: obstacle.kind.code(),
            detail: obstacle.detail,
            task_id: obstacle.task_id,
            path: obstacle.path,
            other_path: obstacle.other_path,
            time: obstacle.time.map(Into::into),
        }
    }
}

impl From<Checkpoint> for v1::Checkpoint {
    fn from(checkpoint: Checkpoint) -> Self {
        Self {
            id: checkpoint.id,
            run_id: checkpoint.run_id,
            status: checkpoint.status.code(),
            payload: json_to_proto(&checkpoint.payload),
            position: checkpoint.position,
            create_time: timestamp_to_proto(checkpoint.create_time),
        }
    }
}

impl From<Artifact> for v1::Artifact {
    fn from(artifact: Artifact) -> Self {
        Self {
            id: artifact.id,
            run_id: artifact.run_id,
            task_id: artifact.task_id,
            role: artifact.role,
            kind: artifact.kind,
            path: artifact.path,
            metadata: json_to_proto(&artifact.metadata),
            create_time: timestamp_to_proto(artifact.create_time),
        }
    }
}

/// Converts each item of a list to its type in the API.
pub fn to_protos<T: Into<P>, P>(items: Vec<T>) -> Vec<P> {
    items.into_iter().map(Into::into).collect()
}

/// Converts a count to a field of a message. If the count is larger than `i32::MAX`, the function returns `i32::MAX`.
pub fn count_to_proto(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::approval::{ApprovalVerdict, ExpiryPolicy};
    use crate::domain::attempt::AttemptStatus;
    use crate::domain::lease::LeaseState;
    use crate::domain::obstacle::ObstacleKind;
    use crate::domain::run::RunStatus;
    use crate::domain::task::TaskStatus;

    /// Declares one test for each enum. The test checks that the enum and the proto have the same values.
    macro_rules! same_values {
        ($($test:ident: $name:ident,)+) => {$(
            #[test]
            fn $test() {
                for value in $name::ALL {
                    let proto = v1::$name::try_from(value.code()).expect("the proto has every domain value");
                    assert_eq!(proto.as_str_name(), value.name());
                }
                let after_last = $name::ALL.last().map_or(0, |value| value.code()) + 1;
                assert!(v1::$name::try_from(after_last).is_err(), "the domain type lacks a proto value");
            }
        )+};
    }

    same_values! {
        run_statuses_equal_the_proto: RunStatus,
        task_statuses_equal_the_proto: TaskStatus,
        attempt_statuses_equal_the_proto: AttemptStatus,
        verdicts_equal_the_proto: ApprovalVerdict,
        expiry_policies_equal_the_proto: ExpiryPolicy,
        lease_states_equal_the_proto: LeaseState,
        obstacle_kinds_equal_the_proto: ObstacleKind,
    }
}
