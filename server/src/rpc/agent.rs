//! This module implements AgentService.

use runhub_api::v1;
use runhub_api::v1::agent_service_server::AgentService;
use tonic::Request;

use super::{Hub, Reply, convert, field};
use crate::actions::agent;
use crate::domain::agent::AgentState;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};

#[tonic::async_trait]
impl AgentService for Hub {
    async fn save_agent_state(&self, request: Request<v1::SaveAgentStateRequest>) -> Reply<v1::SaveAgentStateResponse> {
        let parse = |request: &v1::SaveAgentStateRequest| {
            let draft = parse_state(request.state.as_ref())?;
            Ok((draft, field::optional_counter("expected_revision", request.expected_revision)?))
        };
        self.write(
            request,
            parse,
            |tx, (draft, expected_revision)| agent::save(tx, draft, *expected_revision),
            |state| v1::SaveAgentStateResponse { state: Some(state.into()) },
        )
        .await
    }

    async fn get_agent_state(&self, request: Request<v1::GetAgentStateRequest>) -> Reply<v1::GetAgentStateResponse> {
        self.read(
            request,
            |request| Ok((field::id("run_id", &request.run_id)?, field::name("role", &request.role)?)),
            |tx, (run_id, role)| agent::find(tx, run_id, role),
            |state| v1::GetAgentStateResponse { state: state.map(Into::into) },
        )
        .await
    }

    async fn list_agent_states(
        &self,
        request: Request<v1::ListAgentStatesRequest>,
    ) -> Reply<v1::ListAgentStatesResponse> {
        self.read(
            request,
            |request| field::id("run_id", &request.run_id),
            |tx, run_id| agent::list(tx, run_id),
            |states| v1::ListAgentStatesResponse { states: convert::to_protos(states) },
        )
        .await
    }
}

/// Parses the agent state of a request. `revision` and `update_time` are zero until the action sets them. Fails if a
/// field is invalid.
fn parse_state(state: Option<&v1::AgentState>) -> Result<AgentState> {
    let state = state.ok_or_else(|| Error::field("state", "the agent state is missing: pass the state to save"))?;
    Ok(AgentState {
        run_id: field::id("state.run_id", &state.run_id)?,
        role: field::name("state.role", &state.role)?,
        session_id: field::optional_text("state.session_id", state.session_id.as_deref())?,
        turns: field::count("state.turns", state.turns)?,
        rotation_count: field::count("state.rotation_count", state.rotation_count)?,
        last_prompt_path: field::optional_path("state.last_prompt_path", state.last_prompt_path.as_deref())?,
        last_response_path: field::optional_path("state.last_response_path", state.last_response_path.as_deref())?,
        revision: 0,
        update_time: Timestamp::from_micros(0),
    })
}
