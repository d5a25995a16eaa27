//! This module reads and writes the table `agents`, which holds the state of each agent role in a run.

use super::table::{select, table};
use super::{Limit, Page, Tx, all, first, page, params};
use crate::domain::Key;
use crate::domain::agent::AgentState;
use crate::error::Result;

table! {
    agents a, state: AgentState;
    fixed { role }
    saved on (run_key, role) {
        session_id, turns, rotation_count, last_prompt_path, last_response_path, revision, update_time,
    }
    given { run_key: Key }
    joined "JOIN live_runs r ON r.key = a.run_key" { run_id: "r.id" }
}

/// Returns the state of a role in a run, or None if the role has no state.
pub fn find(tx: &mut dyn Tx, run_key: Key, role: &str) -> Result<Option<AgentState>> {
    first(tx, select!("WHERE a.run_key = $1 AND a.role = $2"), params![run_key, role], read_row)
}

/// Returns the states of all roles in a run, ordered by role.
pub fn list(tx: &mut dyn Tx, run_key: Key) -> Result<Vec<AgentState>> {
    all(tx, select!("WHERE a.run_key = $1 ORDER BY a.role"), params![run_key], read_row)
}

/// Returns a page of the agent states of a run whose role is after `role`, ordered by role.
pub fn list_after(tx: &mut dyn Tx, run_key: Key, role: &str, limit: Limit) -> Result<Page<AgentState>> {
    let sql = select!("WHERE a.run_key = $1 AND a.role > $2 ORDER BY a.role LIMIT $3 OFFSET $4");
    page(tx, sql, params![run_key, role], limit, read_row)
}

/// Inserts the state of a role, or replaces the stored state of the role.
pub fn save(tx: &mut dyn Tx, run_key: Key, state: &AgentState) -> Result<()> {
    insert_row(tx, run_key, state)
}
