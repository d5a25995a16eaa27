//! AgentService.

use runhub_api::v1;
use runhub_api::v1::agent_service_server::AgentService;
use tonic::{Request, Response, Status};

use super::mutate::CallId;
use super::{Hub, convert, field};
use crate::domain::agent::AgentState;
use crate::domain::run::check_revision;
use crate::domain::system_event;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::{agents, events, runs};

#[tonic::async_trait]
impl AgentService for Hub {
    async fn save_agent_state(
        &self,
        request: Request<v1::SaveAgentStateRequest>,
    ) -> Result<Response<v1::SaveAgentStateResponse>, Status> {
        let request = request.into_inner();
        let call = CallId::of(&request)?;
        let draft = parse_state(request.state.as_ref())?;
        let expected = field::counter("expected_revision", request.expected_revision)?;
        self.mutate(call, move |tx| {
            let run_key = runs::key(tx, &draft.run_id)?;
            let revision = agents::find(tx, run_key, &draft.role)?.map_or(0, |state| state.revision);
            check_revision(expected, revision)?;
            let state = AgentState { revision: revision + 1, update_time: tx.now(), ..draft.clone() };
            agents::save(tx, run_key, &state)?;
            events::append(tx, run_key, &system_event::agent_state_saved(&state))?;
            Ok(v1::SaveAgentStateResponse { state: Some(state.into()) })
        })
        .await
    }

    async fn get_agent_state(
        &self,
        request: Request<v1::GetAgentStateRequest>,
    ) -> Result<Response<v1::GetAgentStateResponse>, Status> {
        let request = request.into_inner();
        let run_id = field::id("run_id", &request.run_id)?;
        let role = field::name("role", &request.role)?;
        let state = self.store.read(move |tx| {
            let run_key = runs::key(tx, &run_id)?;
            agents::find(tx, run_key, &role)
        });
        Ok(Response::new(v1::GetAgentStateResponse { state: state.await?.map(Into::into) }))
    }

    async fn list_agent_states(
        &self,
        request: Request<v1::ListAgentStatesRequest>,
    ) -> Result<Response<v1::ListAgentStatesResponse>, Status> {
        let run_id = field::id("run_id", &request.into_inner().run_id)?;
        let states = self.store.read(move |tx| {
            let run_key = runs::key(tx, &run_id)?;
            agents::list(tx, run_key)
        });
        Ok(Response::new(v1::ListAgentStatesResponse { states: convert::protos(states.await?) }))
    }
}

/// What the caller says of it; `revision` and `update_time` are the server's.
fn parse_state(state: Option<&v1::AgentState>) -> Result<AgentState> {
    let state = state.ok_or_else(|| Error::field("state", "is required"))?;
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
