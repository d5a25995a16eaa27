//! This module implements ArtifactService.

use runhub_api::v1;
use runhub_api::v1::artifact_service_server::ArtifactService;
use tonic::Request;

use super::{Hub, Reply, field};
use crate::actions::artifact;
use crate::domain::artifact::ArtifactDraft;
use crate::error::Result;

#[tonic::async_trait]
impl ArtifactService for Hub {
    async fn create_artifact(&self, request: Request<v1::CreateArtifactRequest>) -> Reply<v1::CreateArtifactResponse> {
        self.write(request, parse_draft, artifact::create, |artifact| v1::CreateArtifactResponse {
            artifact: Some(artifact.into()),
        })
        .await
    }

    async fn list_artifacts(&self, request: Request<v1::ListArtifactsRequest>) -> Reply<v1::ListArtifactsResponse> {
        let parse = |request: &v1::ListArtifactsRequest| {
            let run_id = field::id("run_id", &request.run_id)?;
            Ok((run_id, field::optional_name("role", request.role.as_deref())?))
        };
        self.read_page(
            request,
            parse,
            |tx, (run_id, role), page| artifact::list(tx, run_id, role.as_deref(), page.after.unwrap_or(0), page.limit),
            |artifact| artifact.key,
            |artifacts, next_page_token| v1::ListArtifactsResponse { artifacts, next_page_token },
        )
        .await
    }
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
