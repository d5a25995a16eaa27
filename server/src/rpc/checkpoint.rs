//! CheckpointService.

use runhub_api::v1;
use runhub_api::v1::checkpoint_service_server::CheckpointService;
use tonic::{Request, Response, Status};

use super::mutate::CallId;
use super::page::PageRequest;
use super::{Hub, field};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::run::RunStatus;
use crate::domain::system_event;
use crate::store::{checkpoints, events, runs};

#[tonic::async_trait]
impl CheckpointService for Hub {
    async fn create_checkpoint(
        &self,
        request: Request<v1::CreateCheckpointRequest>,
    ) -> Result<Response<v1::CreateCheckpointResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let run_id = field::id("run_id", &request.run_id)?;
        let status = field::code("status", request.status, RunStatus::from_code)?;
        let payload = field::json("payload", request.payload.as_ref())?;
        self.mutate(call, move |tx| {
            let run_key = runs::key(tx, &run_id)?;
            let checkpoint = Checkpoint {
                key: tx.next_key()?,
                id: tx.new_id(),
                run_id: run_id.clone(),
                status,
                payload: payload.clone(),
                position: events::newest_of_run(tx, run_key)?,
                create_time: tx.now(),
            };
            checkpoints::insert(tx, run_key, &checkpoint)?;
            events::append(tx, run_key, &system_event::checkpoint_created(&checkpoint))?;
            Ok(v1::CreateCheckpointResponse { checkpoint: Some(checkpoint.into()) })
        })
        .await
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        let id = field::id("checkpoint_id", &request.into_inner().checkpoint_id)?;
        let checkpoint = self.store.read(move |tx| checkpoints::get(tx, &id)).await?;
        Ok(Response::new(v1::GetCheckpointResponse { checkpoint: Some(checkpoint.into()) }))
    }

    async fn get_latest_checkpoint(
        &self,
        request: Request<v1::GetLatestCheckpointRequest>,
    ) -> Result<Response<v1::GetLatestCheckpointResponse>, Status> {
        let run_id = field::id("run_id", &request.into_inner().run_id)?;
        let latest = self.store.read(move |tx| {
            let run_key = runs::key(tx, &run_id)?;
            checkpoints::latest(tx, run_key)
        });
        Ok(Response::new(v1::GetLatestCheckpointResponse { checkpoint: latest.await?.map(Into::into) }))
    }

    async fn list_checkpoints(
        &self,
        request: Request<v1::ListCheckpointsRequest>,
    ) -> Result<Response<v1::ListCheckpointsResponse>, Status> {
        let mut request = request.into_inner();
        let run_id = field::id("run_id", &request.run_id)?;
        let page = PageRequest::take(&mut request)?;
        let (after, limit) = (page.after.unwrap_or(0), page.limit);
        let found = self.store.read(move |tx| {
            let run_key = runs::key(tx, &run_id)?;
            checkpoints::list(tx, run_key, after, limit)
        });
        let found = found.await?;
        let (checkpoints, next_page_token) = page.answer(found, |checkpoint| checkpoint.key);
        Ok(Response::new(v1::ListCheckpointsResponse { checkpoints, next_page_token }))
    }
}
