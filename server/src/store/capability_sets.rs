//! This module reads and writes the table `capability_sets`, which stores the `required_capabilities` of tasks. Each
//! distinct set of capabilities has one row.

use sha2::{Digest, Sha256};

use super::column::json_text;
use super::{Tx, all, first, params};
use crate::domain::Key;
use crate::error::{Error, Result};

/// The key of the empty set, which has no row.
pub const NONE: Key = 0;

/// Returns the key of a capability set. If the table does not contain the set, the function inserts the set first.
pub fn find_or_insert(tx: &mut dyn Tx, capabilities: &[String]) -> Result<Key> {
    if capabilities.is_empty() {
        return Ok(NONE);
    }
    let mut capabilities = capabilities.to_vec();
    capabilities.sort();
    capabilities.dedup();
    let capabilities = json_text(&capabilities)?;
    let digest = Sha256::digest(&capabilities).to_vec();
    let known = first(tx, "SELECT key FROM capability_sets WHERE digest = $1", params![digest], |row| row.take())?;
    if let Some(known) = known {
        return Ok(known);
    }
    let key = tx.next_key()?;
    let sql = "INSERT INTO capability_sets (key, digest, capabilities) VALUES ($1, $2, $3)";
    tx.write(sql, params![key, digest, capabilities])?;
    Ok(key)
}

/// Returns the capabilities of a set. Fails if the set does not exist.
pub fn get(tx: &mut dyn Tx, key: Key) -> Result<Vec<String>> {
    let sql = "SELECT capabilities FROM capability_sets WHERE key = $1";
    let found = first(tx, sql, params![key], |row| row.take())?;
    found.ok_or_else(|| {
        Error::internal(format!("table `capability_sets` has no set with the key {key}: report the bug"))
    })
}

/// Inserts the capability sets of all tasks that require capabilities but have no capability set. A database from
/// before schema version 6 contains such tasks.
pub fn insert_missing(tx: &mut dyn Tx) -> Result<()> {
    let sql = "SELECT key, required_capabilities FROM tasks
        WHERE capability_set_key = 0 AND required_capabilities <> '[]'";
    let undeclared: Vec<(Key, Vec<String>)> = all(tx, sql, &[], |row| Ok((row.take()?, row.take()?)))?;
    for (key, capabilities) in undeclared {
        let set = find_or_insert(tx, &capabilities)?;
        tx.write("UPDATE tasks SET capability_set_key = $2 WHERE key = $1", params![key, set])?;
    }
    Ok(())
}
