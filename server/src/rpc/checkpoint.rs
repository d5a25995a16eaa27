//! This module implements CheckpointService.

use runhub_api::v1;
use runhub_api::v1::checkpoint_service_server::CheckpointService;
use tonic::Request;

use super::{Hub, Reply, field};
use crate::actions::checkpoint;
use crate::domain::run::RunStatus;
use crate::store::checkpoints;

#[tonic::async_trait]
impl CheckpointService for Hub {
    async fn create_checkpoint(
        &self,
        request: Request<v1::CreateCheckpointRequest>,
    ) -> Reply<v1::CreateCheckpointResponse> {
        let parse = |request: &v1::CreateCheckpointRequest| {
            let run_id = field::id("run_id", &request.run_id)?;
            let status = field::code("status", request.status, RunStatus::from_code)?;
            Ok((run_id, status, field::json("payload", request.payload.as_ref())?))
        };
        self.write(
            request,
            parse,
            |tx, (run_id, status, payload)| checkpoint::create(tx, run_id, *status, payload),
            |checkpoint| v1::CreateCheckpointResponse { checkpoint: Some(checkpoint.into()) },
        )
        .await
    }

    async fn get_checkpoint(&self, request: Request<v1::GetCheckpointRequest>) -> Reply<v1::GetCheckpointResponse> {
        self.read(
            request,
            |request| field::id("checkpoint_id", &request.checkpoint_id),
            |tx, checkpoint_id| checkpoints::get(tx, checkpoint_id),
            |checkpoint| v1::GetCheckpointResponse { checkpoint: Some(checkpoint.into()) },
        )
        .await
    }

    async fn get_latest_checkpoint(
        &self,
        request: Request<v1::GetLatestCheckpointRequest>,
    ) -> Reply<v1::GetLatestCheckpointResponse> {
        self.read(
            request,
            |request| field::id("run_id", &request.run_id),
            |tx, run_id| checkpoint::find_latest(tx, run_id),
            |checkpoint| v1::GetLatestCheckpointResponse { checkpoint: checkpoint.map(Into::into) },
        )
        .await
    }

    async fn list_checkpoints(
        &self,
        request: Request<v1::ListCheckpointsRequest>,
    ) -> Reply<v1::ListCheckpointsResponse> {
        self.read_page(
            request,
            |request| field::id("run_id", &request.run_id),
            |tx, run_id, page| checkpoint::list(tx, run_id, page.after.unwrap_or(0), page.limit),
            |checkpoint| checkpoint.key,
            |checkpoints, next_page_token| v1::ListCheckpointsResponse { checkpoints, next_page_token },
        )
        .await
    }
}
