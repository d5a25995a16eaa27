//! This module determines the length of pages and lists, and creates and checks page tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use runhub_api::Paged;
use sha2::{Digest, Sha256};

use super::field;
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::{Limit, Page};

/// Length of the checksum in a page token, in bytes. The checksum binds the token to one query.
const CHECKSUM_BYTES: usize = 8;

/// The page that a request selects.
pub struct PageRequest {
    /// The start and the maximum length of the page.
    pub start: PageStart,
    /// The name of the RPC and the encoded request without the page fields.
    query: Vec<u8>,
}

/// The start and the maximum length of a page.
#[derive(Debug, Clone, Copy)]
pub struct PageStart {
    /// The key of the last row on the previous page. For the first page, the value is None.
    pub after: Option<i64>,
    /// The maximum number of rows on the page, and the maximum size of the page in bytes.
    pub limit: Limit,
}

impl PageRequest {
    /// Removes the page fields from a request, and returns the page that the fields select. Fails if the page size is
    /// negative, or if the page token belongs to another query.
    pub fn take<R: Paged>(request: &mut R) -> Result<Self> {
        let (size, token) = request.take_page();
        let rows = parse_list_length("page_size", size, limits::DEFAULT_PAGE_SIZE)?;
        let mut query = R::RPC.name.as_bytes().to_vec();
        request.encode(&mut query).map_err(Error::internal)?;
        let after = if token.is_empty() { None } else { Some(decode_token(&token, &query)?) };
        Ok(Self { start: PageStart { after, limit: Limit { rows, bytes: limits::PAGE_BYTES } }, query })
    }

    /// Returns the rows that fit into a page, and the token of the next page. `key` returns the key of a row in
    /// `found`. If no next page exists, the token is empty.
    pub fn answer<T, P>(&self, found: Page<T>, key: impl Fn(&T) -> i64) -> (Vec<P>, String)
    where
        T: Into<P>,
        P: Message,
    {
        let keys: Vec<i64> = found.rows.iter().map(key).collect();
        let items: Vec<P> = take_fitting(found.rows);
        let is_last = found.is_last && items.len() == keys.len();
        let last_key = items.len().checked_sub(1).and_then(|last| keys.get(last));
        let token = match last_key {
            Some(key) if !is_last => self.encode_token(*key),
            _ => String::new(),
        };
        (items, token)
    }

    fn encode_token(&self, key: i64) -> String {
        URL_SAFE_NO_PAD.encode([&key.to_be_bytes()[..], &compute_checksum(&self.query, key)].concat())
    }
}

/// Returns the row key in a page token. Fails if `PageRequest::encode_token` did not create the token for the query
/// `query`.
fn decode_token(token: &str, query: &[u8]) -> Result<i64> {
    let invalid = || {
        Error::field(
            "page_token",
            "the page token is invalid: pass the next_page_token of the previous page of the same query",
        )
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let (key, rest) = bytes.split_first_chunk::<8>().ok_or_else(invalid)?;
    let key = i64::from_be_bytes(*key);
    if rest == compute_checksum(query, key) { Ok(key) } else { Err(invalid()) }
}

fn compute_checksum(query: &[u8], key: i64) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(query).chain_update(key.to_be_bytes()).finalize();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    checksum
}

/// Returns the first items of a list that fit into a response, but at least one item. The protobuf encoding of an item
/// can be much larger than the item's stored JSON text, so a stored page may not fit into a response.
pub fn take_fitting<T: Into<P>, P: Message>(found: Vec<T>) -> Vec<P> {
    /// Maximum size of the tag and the length before an item, in bytes.
    const OVERHEAD: usize = 6;
    let mut items = Vec::with_capacity(found.len());
    let mut bytes = 0;
    for item in found {
        let item: P = item.into();
        bytes += item.encoded_len() + OVERHEAD;
        if bytes > limits::PAGE_BYTES && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    items
}

/// Returns the newest items of a list that fit into a response, ordered from oldest to newest. `newest_first` is
/// ordered from newest to oldest.
pub fn take_newest_fitting<T: Into<P>, P: Message>(newest_first: Vec<T>) -> Vec<P> {
    let mut items = take_fitting(newest_first);
    items.reverse();
    items
}

/// Parses the length of a page or list. Returns `default` if the length is 0, and at most `limits::PAGE_SIZE`. Fails if
/// the length is negative.
pub fn parse_list_length(field: &str, length: i32, default: usize) -> Result<usize> {
    let length = usize::try_from(field::count(field, length)?).unwrap_or(0);
    Ok(if length == 0 { default } else { length.min(limits::PAGE_SIZE) })
}

/// Parses the length of a list that contains only the newest items and has no pages. Fails if the length is negative.
pub fn parse_newest_limit(field: &str, length: i32, default: usize) -> Result<Limit> {
    Ok(Limit { rows: parse_list_length(field, length, default)?, bytes: limits::PAGE_BYTES })
}

#[cfg(test)]
mod tests {
    use runhub_api::v1;

    use super::*;

    fn new_request(run: &str, token: &str) -> v1::ListTasksRequest {
        v1::ListTasksRequest { run_id: run.to_owned(), page_token: token.to_owned(), ..Default::default() }
    }

    fn parse_page(run: &str, token: &str) -> Result<PageRequest> {
        PageRequest::take(&mut new_request(run, token))
    }

    #[test]
    fn page_token_is_valid_for_one_query_only() {
        let token = parse_page("a", "").unwrap().encode_token(7);
        assert_eq!(parse_page("a", &token).unwrap().start.after, Some(7));
        assert!(parse_page("b", &token).is_err());
        let mut other = v1::ListCheckpointsRequest { run_id: "a".into(), page_token: token, ..Default::default() };
        assert!(PageRequest::take(&mut other).is_err());
    }

    #[test]
    fn invalid_token_is_refused() {
        for token in ["x", "AAAA", "AAAAAAAAAAcAAAAAAAAAAA", "é"] {
            assert!(parse_page("a", token).is_err(), "{token}");
        }
    }

    #[test]
    fn only_the_last_page_has_no_token() {
        let page = |is_last| Page { rows: vec![String::from("a"), String::from("b")], is_last };
        let answer = |is_last| parse_page("a", "").unwrap().answer::<String, String>(page(is_last), |_| 7);
        assert_eq!(answer(true).1, "");
        assert_ne!(answer(false).1, "");
    }

    #[test]
    fn rows_that_do_not_fit_are_on_the_next_page() {
        let rows = vec!["x".repeat(limits::PAGE_BYTES - 100), "y".repeat(200), "z".into()];
        let page = Page { rows, is_last: true };
        let (items, token) = parse_page("a", "").unwrap().answer::<String, String>(page, |row| row.len() as i64);
        assert_eq!((items.len(), token.is_empty()), (1, false));
        assert_eq!(parse_page("a", &token).unwrap().start.after, Some(limits::PAGE_BYTES as i64 - 100));
        assert_eq!(take_fitting::<String, String>(vec!["x".repeat(2 * limits::PAGE_BYTES)]).len(), 1, "at least one");
    }

    #[test]
    fn lengths_have_a_default_and_a_maximum() {
        assert_eq!(parse_list_length("limit", 0, 12), Ok(12));
        assert_eq!(parse_list_length("limit", 5_000, 12), Ok(1_000));
        assert!(parse_list_length("limit", -1, 12).is_err());
    }
}
