//! This module defines how responses are stored for duplicate requests. A stored response does not contain a JSON value
//! that the row of the resource contains too: the value can have 1 MiB, and the server would store it twice.

use prost::Message;
use prost_types::Value;
use runhub_api::v1;

use super::value::json_to_proto;
use crate::domain::json::Json;
use crate::error::{Error, Resource, Result};
use crate::store::{Tx, approvals, artifacts, checkpoints};

/// A response that the server stores for duplicate requests.
pub trait StoredResponse: Message + Default {
    /// Returns the field whose value is read again for a duplicate request instead of being stored with the response.
    /// Returns None if the response has no such field. The value must never change: the value of an attempt can change,
    /// and a duplicate request gets the first response.
    fn value_of_row(&mut self) -> Option<&mut Option<Value>> {
        None
    }

    /// Reads the value of this field from the row of the resource. Fails with RUN_NOT_FOUND if the run was deleted.
    fn read_value(&self, _tx: &mut dyn Tx) -> Result<Option<Value>> {
        Ok(None)
    }
}

/// Returns the encoded response without the value that the row of the resource contains. The response is unchanged.
pub fn encode<P: StoredResponse>(response: &mut P) -> Vec<u8> {
    let value = response.value_of_row().and_then(Option::take);
    let encoded = response.encode_to_vec();
    if let Some(field) = response.value_of_row() {
        *field = value;
    }
    encoded
}

/// Returns the stored response, including the value that the row of the resource contains. Fails if the stored bytes
/// are invalid, and with RUN_NOT_FOUND if the run of the resource was deleted.
pub fn decode<P: StoredResponse>(tx: &mut dyn Tx, stored: &[u8]) -> Result<P> {
    let mut response = P::decode(stored).map_err(Error::internal)?;
    // Servers before version 9 of the schema have stored the value with the response.
    if response.value_of_row().is_some_and(|field| field.is_none()) {
        let value = response.read_value(tx)?;
        if let Some(field) = response.value_of_row() {
            *field = value;
        }
    }
    Ok(response)
}

/// Implements `StoredResponse` for responses whose resource has a value that never changes.
macro_rules! with_value {
    ($($response:ident: $resource:ident, $field:ident, $read:ident;)+) => {
        $(impl StoredResponse for v1::$response {
            fn value_of_row(&mut self) -> Option<&mut Option<Value>> {
                self.$resource.as_mut().map(|resource| &mut resource.$field)
            }

            fn read_value(&self, tx: &mut dyn Tx) -> Result<Option<Value>> {
                let Some(resource) = &self.$resource else { return Ok(None) };
                let value = $read(tx, &resource.id)?;
                let value = value.ok_or_else(|| Error::not_found(Resource::Run, &resource.run_id))?;
                Ok(json_to_proto(&value))
            }
        })+
    };
}

with_value! {
    CreateCheckpointResponse: checkpoint, payload, read_checkpoint;
    CreateArtifactResponse: artifact, metadata, read_artifact;
    RecordApprovalResponse: approval, payload, read_approval;
    RequestApprovalResponse: approval, payload, read_approval;
    DecideApprovalResponse: approval, payload, read_approval;
    CancelApprovalResponse: approval, payload, read_approval;
    ConsumeApprovalResponse: approval, payload, read_approval;
}

fn read_checkpoint(tx: &mut dyn Tx, id: &str) -> Result<Option<Json>> {
    Ok(checkpoints::find(tx, id)?.map(|checkpoint| checkpoint.payload))
}

fn read_artifact(tx: &mut dyn Tx, id: &str) -> Result<Option<Json>> {
    Ok(artifacts::find(tx, id)?.map(|artifact| artifact.metadata))
}

fn read_approval(tx: &mut dyn Tx, id: &str) -> Result<Option<Json>> {
    Ok(approvals::find(tx, id)?.map(|approval| approval.payload))
}

/// Implements `StoredResponse` for responses that are stored completely.
macro_rules! complete {
    ($($response:ident),+ $(,)?) => { $(impl StoredResponse for v1::$response {})+ };
}

complete!(
    AbandonTaskResponse,
    AddTasksResponse,
    AppendEventsResponse,
    BlockTaskResponse,
    CancelRunResponse,
    ClaimTaskResponse,
    CompleteTaskResponse,
    CreateRunResponse,
    DeleteRunResponse,
    FailTaskResponse,
    IncrementCycleResponse,
    IncrementReplanResponse,
    PauseRunResponse,
    RecordTaskAttemptResponse,
    ReleaseTaskResponse,
    ReplacePendingTasksResponse,
    RequeueInProgressTasksResponse,
    RequeueTaskResponse,
    ResumeRunResponse,
    SaveAgentStateResponse,
    UpdateRunResponse,
);
