//! Table `requests`: answers given to requests with a request_id.

use super::{Tx, first, params};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// An answer that was given.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    /// Of the request's content.
    pub fingerprint: Vec<u8>,
    /// What the bytes are: a response, or the status of a refusal that wrote an event.
    pub refused: bool,
    /// The encoded message.
    pub answer: Vec<u8>,
}

/// The answer given to this request before, if it was.
pub fn find(tx: &mut dyn Tx, rpc: &str, request_id: &str) -> Result<Option<StoredAnswer>> {
    let sql = "SELECT fingerprint, refused, answer FROM requests WHERE rpc = $1 AND request_id = $2";
    first(tx, sql, params![rpc, request_id], |row| {
        Ok(StoredAnswer { fingerprint: row.take()?, refused: row.take::<i64>()? != 0, answer: row.take()? })
    })
}

/// Keeps an answer.
pub fn insert(tx: &mut dyn Tx, rpc: &str, request_id: &str, answer: &StoredAnswer) -> Result<()> {
    let sql = "INSERT INTO requests (key, rpc, request_id, fingerprint, refused, answer, create_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let (key, now) = (tx.next_key()?, tx.now());
    let StoredAnswer { fingerprint, refused, answer } = answer;
    tx.execute(sql, params![key, rpc, request_id, fingerprint, i64::from(*refused), answer, now]).map(drop)
}

/// Forgets answers given before a time, the oldest thousand at most; returns how many.
pub fn forget_before(tx: &mut dyn Tx, time: Timestamp) -> Result<u64> {
    let sql = "DELETE FROM requests WHERE key IN
        (SELECT key FROM (SELECT key, create_time FROM requests ORDER BY key LIMIT 1000) oldest
        WHERE create_time < $1)";
    tx.execute(sql, params![time])
}
