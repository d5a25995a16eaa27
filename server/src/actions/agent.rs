//! This module saves and reads agent states, which agents use to continue in a new session.

use crate::domain::agent::AgentState;
use crate::domain::run::check_revision;
use crate::domain::system_event;
use crate::error::Result;
use crate::store::{Tx, agents, events, runs};

/// Saves the agent state of a role in a run and returns the saved state. Sets `revision` and `update_time`. Fails if
/// the current revision differs from `expected_revision`.
pub fn save(tx: &mut dyn Tx, draft: &AgentState, expected_revision: Option<i64>) -> Result<AgentState> {
    let run_key = runs::get_key(tx, &draft.run_id)?;
    let revision = agents::find(tx, run_key, &draft.role)?.map_or(0, |state| state.revision);
    check_revision(format_args!("the state of role {:?}", draft.role), expected_revision, revision)?;
    let state = AgentState { revision: revision + 1, update_time: tx.now(), ..draft.clone() };
    agents::save(tx, run_key, &state)?;
    events::append(tx, run_key, &system_event::agent_state_saved(&state))?;
    Ok(state)
}

/// Returns the agent state of a role in a run, or None if no state was saved. Fails if the run does not exist.
pub fn find(tx: &mut dyn Tx, run_id: &str, role: &str) -> Result<Option<AgentState>> {
    let run_key = runs::get_key(tx, run_id)?;
    agents::find(tx, run_key, role)
}

/// Returns all agent states of a run, ordered by role. Fails if the run does not exist.
pub fn list(tx: &mut dyn Tx, run_id: &str) -> Result<Vec<AgentState>> {
    let run_key = runs::get_key(tx, run_id)?;
    agents::list(tx, run_key)
}
