//! Pages and lists: how long they are, and the tokens that lead from one page to the next.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use sha2::{Digest, Sha256};

use super::field;
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::Limit;

/// Shortened digest of the query, so that a token made up or of another query is known for one.
const SEAL_BYTES: usize = 8;

/// A page as a caller asks for it.
pub struct PageRequest {
    /// How long.
    pub limit: Limit,
    /// What the token holds: the key the page before ended at. None on the first page.
    pub after: Option<i64>,
    seal_of: Vec<u8>,
}

impl PageRequest {
    /// Parses `page_size` and `page_token` of a query, which is the request without those two.
    pub fn parse(rpc: &str, query: &impl Message, page_size: i32, page_token: &str) -> Result<Self> {
        let rows = list_length("page_size", page_size, limits::DEFAULT_PAGE_SIZE)?;
        let mut seal_of = rpc.as_bytes().to_vec();
        query.encode(&mut seal_of).map_err(Error::internal)?;
        let after = if page_token.is_empty() { None } else { Some(open(page_token, &seal_of)?) };
        Ok(Self { limit: Limit { rows, bytes: limits::PAGE_BYTES }, after, seal_of })
    }

    /// The token of the next page, empty when this was the last.
    pub fn next_token(&self, is_last: bool, last_key: Option<i64>) -> String {
        match last_key {
            Some(key) if !is_last => {
                URL_SAFE_NO_PAD.encode([&key.to_be_bytes()[..], &seal(&self.seal_of, key)].concat())
            }
            _ => String::new(),
        }
    }
}

fn open(token: &str, seal_of: &[u8]) -> Result<i64> {
    let forged = || Error::field("page_token", "is not a token of this query");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| forged())?;
    let (key, sealed) = bytes.split_first_chunk::<8>().ok_or_else(forged)?;
    let key = i64::from_be_bytes(*key);
    if sealed == seal(seal_of, key) { Ok(key) } else { Err(forged()) }
}

fn seal(seal_of: &[u8], key: i64) -> [u8; SEAL_BYTES] {
    let digest = Sha256::new().chain_update(seal_of).chain_update(key.to_be_bytes()).finalize();
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&digest[..SEAL_BYTES]);
    seal
}

/// The length of a page or list: 0 means the default; above the longest it is cut to that.
pub fn list_length(name: &str, asked: i32, default: usize) -> Result<usize> {
    let asked = usize::try_from(field::count(name, asked)?).unwrap_or(0);
    Ok(if asked == 0 { default } else { asked.min(limits::PAGE_SIZE) })
}

/// A list of the newest, which has no pages.
pub fn newest(name: &str, asked: i32, default: usize) -> Result<Limit> {
    Ok(Limit { rows: list_length(name, asked, default)?, bytes: limits::PAGE_BYTES })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(run: &str, token: &str) -> Result<PageRequest> {
        PageRequest::parse("List", &run.to_owned(), 0, token)
    }

    #[test]
    fn a_token_is_good_for_its_query_only() {
        let token = parse("a", "").unwrap().next_token(false, Some(7));
        assert_eq!(parse("a", &token).unwrap().after, Some(7));
        assert!(parse("b", &token).is_err());
        assert!(PageRequest::parse("Other", &"a".to_owned(), 0, &token).is_err());
    }

    #[test]
    fn a_forged_token_is_refused() {
        for token in ["x", "AAAA", "AAAAAAAAAAcAAAAAAAAAAA", "é"] {
            assert!(parse("a", token).is_err(), "{token}");
        }
    }

    #[test]
    fn the_last_page_has_no_token() {
        assert_eq!(parse("a", "").unwrap().next_token(true, Some(7)), "");
    }

    #[test]
    fn lengths_have_a_default_and_a_top() {
        assert_eq!(list_length("limit", 0, 12), Ok(12));
        assert_eq!(list_length("limit", 5_000, 12), Ok(1_000));
        assert!(list_length("limit", -1, 12).is_err());
    }
}
