//! Table `agents`.

use super::{Columns, Tx, all, first, params, rows_of};
use crate::domain::Key;
use crate::domain::agent::AgentState;
use crate::error::Result;

rows_of!($ "SELECT r.id, a.role, a.session_id, a.turns, a.rotation_count, a.last_prompt_path,
        a.last_response_path, a.revision, a.update_time
    FROM agents a JOIN runs r ON r.key = a.run_key ");

fn state(row: &mut Columns) -> Result<AgentState> {
    Ok(AgentState {
        run_id: row.take()?,
        role: row.take()?,
        session_id: row.take()?,
        turns: row.take()?,
        rotation_count: row.take()?,
        last_prompt_path: row.take()?,
        last_response_path: row.take()?,
        revision: row.take()?,
        update_time: row.take()?,
    })
}

/// The state of a role, if there is one.
pub fn find(tx: &mut dyn Tx, run_key: Key, role: &str) -> Result<Option<AgentState>> {
    first(tx, select!("WHERE a.run_key = $1 AND a.role = $2"), params![run_key, role], state)
}

/// All states of a run, by role.
pub fn list(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<AgentState>> {
    all(tx, select!("WHERE a.run_key = $1 ORDER BY a.role"), params![run_key], state)
}

/// Inserts or replaces the state of a role.
pub fn save(tx: &mut dyn Tx, run_key: Key, state: &AgentState) -> Result<()> {
    let sql = "INSERT INTO agents (run_key, role, session_id, turns, rotation_count, last_prompt_path,
            last_response_path, revision, update_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (run_key, role) DO UPDATE SET session_id = excluded.session_id, turns = excluded.turns,
            rotation_count = excluded.rotation_count, last_prompt_path = excluded.last_prompt_path,
            last_response_path = excluded.last_response_path, revision = excluded.revision,
            update_time = excluded.update_time";
    tx.execute(
        sql,
        params![
            run_key,
            state.role,
            state.session_id,
            state.turns,
            state.rotation_count,
            state.last_prompt_path,
            state.last_response_path,
            state.revision,
            state.update_time,
        ],
    )
    .map(drop)
}
