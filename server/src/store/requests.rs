//! This module reads and writes the table `requests`, which stores the responses to calls with a request_id.

use super::tasks_ahead::keep_tasks;
use super::{Tx, first, params};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Holds the stored response to a call with a request_id.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    /// SHA-256 digest of the content of the request.
    pub fingerprint: Vec<u8>,
    /// If `answer` is the status of a rejection that wrote an event, the value is true. If `answer` is a response, the
    /// value is false.
    pub refused: bool,
    /// Protobuf encoding of the response, or of the status of the rejection.
    pub answer: Vec<u8>,
}

/// Returns the stored response to an earlier call of the RPC `rpc` with the request_id `request_id`, or None if no
/// response is stored.
pub fn find(tx: &mut dyn Tx, rpc: &str, request_id: &str) -> Result<Option<StoredAnswer>> {
    let sql = "SELECT fingerprint, refused, answer FROM requests WHERE rpc = $1 AND request_id = $2";
    first(tx, sql, params![rpc, request_id], |row| {
        Ok(StoredAnswer { fingerprint: row.take()?, refused: row.take()?, answer: row.take()? })
    })
}

/// Stores the response to a call with a request_id.
pub fn insert(tx: &mut dyn Tx, rpc: &str, request_id: &str, answer: &StoredAnswer) -> Result<()> {
    let sql = "INSERT INTO requests (key, rpc, request_id, fingerprint, refused, answer, create_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let key = tx.next_key()?;
    let now = tx.now();
    let StoredAnswer { fingerprint, refused, answer } = answer;
    keep_tasks(tx, None, |tx| tx.write(sql, params![key, rpc, request_id, fingerprint, refused, answer, now]))
}

/// Removes up to 1,000 stored responses that are older than `time`, oldest first, and returns the number of removed
/// responses.
pub fn remove_before(tx: &mut dyn Tx, time: Timestamp) -> Result<u64> {
    let sql = "DELETE FROM requests WHERE key IN
        (SELECT key FROM (SELECT key, create_time FROM requests ORDER BY key LIMIT 1000) oldest
        WHERE create_time < $1)";
    tx.execute(sql, params![time])
}
