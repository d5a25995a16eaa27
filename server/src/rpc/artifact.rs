//! ArtifactService.

use runhub_api::v1;
use runhub_api::v1::artifact_service_server::ArtifactService;
use tonic::{Request, Response, Status};

use super::mutate::CallId;
use super::page::PageRequest;
use super::{Hub, field};
use crate::domain::artifact::Artifact;
use crate::domain::json::Json;
use crate::domain::system_event;
use crate::error::Result;
use crate::store::{Tx, artifacts, events, runs, tasks};

#[tonic::async_trait]
impl ArtifactService for Hub {
    async fn create_artifact(
        &self,
        request: Request<v1::CreateArtifactRequest>,
    ) -> Result<Response<v1::CreateArtifactResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let draft = parse_draft(&request)?;
        self.mutate(call, move |tx| {
            let artifact = create(tx, &draft)?;
            Ok(v1::CreateArtifactResponse { artifact: Some(artifact.into()) })
        })
        .await
    }

    async fn list_artifacts(
        &self,
        request: Request<v1::ListArtifactsRequest>,
    ) -> Result<Response<v1::ListArtifactsResponse>, Status> {
        let mut request = request.into_inner();
        let run_id = field::id("run_id", &request.run_id)?;
        let page = PageRequest::take(&mut request)?;
        let role = field::optional_name("role", request.role.as_deref())?;
        let (after, limit) = (page.after.unwrap_or(0), page.limit);
        let found = self.store.read(move |tx| {
            let run_key = runs::key(tx, &run_id)?;
            artifacts::list(tx, run_key, role.as_deref(), after, limit)
        });
        let found = found.await?;
        let (artifacts, next_page_token) = page.answer(found, |artifact| artifact.key);
        Ok(Response::new(v1::ListArtifactsResponse { artifacts, next_page_token }))
    }
}

struct ArtifactDraft {
    run_id: String,
    task_id: Option<String>,
    role: Option<String>,
    kind: String,
    path: String,
    metadata: Json,
}

fn parse_draft(request: &v1::CreateArtifactRequest) -> Result<ArtifactDraft> {
    Ok(ArtifactDraft {
        run_id: field::id("run_id", &request.run_id)?,
        task_id: field::optional_id("task_id", request.task_id.as_deref())?,
        role: field::optional_name("role", request.role.as_deref())?,
        kind: field::name("kind", &request.kind)?,
        path: field::path("path", &request.path)?,
        metadata: field::json("metadata", request.metadata.as_ref())?,
    })
}

fn create(tx: &mut dyn Tx, draft: &ArtifactDraft) -> Result<Artifact> {
    let run_key = runs::key(tx, &draft.run_id)?;
    let task_key = draft.task_id.as_deref().map(|id| tasks::key_in_run(tx, run_key, id)).transpose()?;
    let artifact = Artifact {
        key: tx.next_key()?,
        id: tx.new_id(),
        run_id: draft.run_id.clone(),
        task_id: draft.task_id.clone(),
        role: draft.role.clone(),
        kind: draft.kind.clone(),
        path: draft.path.clone(),
        metadata: draft.metadata.clone(),
        create_time: tx.now(),
    };
    artifacts::insert(tx, run_key, task_key, &artifact)?;
    events::append(tx, run_key, &system_event::artifact_created(&artifact, task_key))?;
    Ok(artifact)
}
