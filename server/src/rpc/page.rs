//! Pages and lists: how long they are, and the tokens that lead from one page to the next.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use runhub_api::Paged;
use sha2::{Digest, Sha256};

use super::field;
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::{Limit, Page};

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
    /// Takes the page out of a request.
    pub fn take<R: Paged>(request: &mut R) -> Result<Self> {
        let (size, token) = request.take_page();
        let rows = list_length("page_size", size, limits::DEFAULT_PAGE_SIZE)?;
        let mut seal_of = R::RPC.name.as_bytes().to_vec();
        request.encode(&mut seal_of).map_err(Error::internal)?;
        let after = if token.is_empty() { None } else { Some(open(&token, &seal_of)?) };
        Ok(Self { limit: Limit { rows, bytes: limits::PAGE_BYTES }, after, seal_of })
    }

    /// What was found as the API shows it, as far as it fits, and the token of the next page.
    pub fn answer<T, P>(&self, found: Page<T>, key: impl Fn(&T) -> i64) -> (Vec<P>, String)
    where
        T: Into<P>,
        P: Message,
    {
        let keys: Vec<i64> = found.rows.iter().map(key).collect();
        let items: Vec<P> = fitting(found.rows);
        let is_last = found.is_last && items.len() == keys.len();
        let last_key = items.len().checked_sub(1).and_then(|last| keys.get(last));
        let token = last_key.filter(|_| !is_last).map(|key| self.token(*key));
        (items, token.unwrap_or_default())
    }

    fn token(&self, key: i64) -> String {
        URL_SAFE_NO_PAD.encode([&key.to_be_bytes()[..], &seal(&self.seal_of, key)].concat())
    }
}

/// As much of a list as fits into an answer on the wire, at least one. Stored, JSON may be much smaller than that.
pub fn fitting<T: Into<P>, P: Message>(found: Vec<T>) -> Vec<P> {
    let mut items = Vec::with_capacity(found.len());
    let mut bytes = 0;
    for item in found {
        let item: P = item.into();
        // With a tag and a length before it.
        bytes += item.encoded_len() + 6;
        if bytes > limits::PAGE_BYTES && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    items
}

/// The same of a list found from the newest backwards: the newest that fit, the oldest of them first.
pub fn newest_fitting<T: Into<P>, P: Message>(newest_first: Vec<T>) -> Vec<P> {
    let mut items = fitting(newest_first);
    items.reverse();
    items
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
    use runhub_api::v1;

    use super::*;

    fn request(run: &str, token: &str) -> v1::ListTasksRequest {
        v1::ListTasksRequest { run_id: run.to_owned(), page_token: token.to_owned(), ..Default::default() }
    }

    fn take(run: &str, token: &str) -> Result<PageRequest> {
        PageRequest::take(&mut request(run, token))
    }

    #[test]
    fn a_token_is_good_for_its_query_only() {
        let token = take("a", "").unwrap().token(7);
        assert_eq!(take("a", &token).unwrap().after, Some(7));
        assert!(take("b", &token).is_err());
        let mut other = v1::ListCheckpointsRequest { run_id: "a".into(), page_token: token, ..Default::default() };
        assert!(PageRequest::take(&mut other).is_err());
    }

    #[test]
    fn a_forged_token_is_refused() {
        for token in ["x", "AAAA", "AAAAAAAAAAcAAAAAAAAAAA", "é"] {
            assert!(take("a", token).is_err(), "{token}");
        }
    }

    #[test]
    fn only_the_last_page_has_no_token() {
        let page = |is_last| Page { rows: vec![String::from("a"), String::from("b")], is_last };
        let answer = |is_last| take("a", "").unwrap().answer::<String, String>(page(is_last), |_| 7);
        assert_eq!(answer(true).1, "");
        assert_ne!(answer(false).1, "");
    }

    #[test]
    fn what_does_not_fit_is_on_the_next_page() {
        let rows = vec!["x".repeat(limits::PAGE_BYTES - 100), "y".repeat(200), "z".into()];
        let page = Page { rows, is_last: true };
        let (items, token) = take("a", "").unwrap().answer::<String, String>(page, |row| row.len() as i64);
        assert_eq!((items.len(), token.is_empty()), (1, false));
        assert_eq!(take("a", &token).unwrap().after, Some(limits::PAGE_BYTES as i64 - 100));
        assert_eq!(fitting::<String, String>(vec!["x".repeat(2 * limits::PAGE_BYTES)]).len(), 1, "at least one");
    }

    #[test]
    fn lengths_have_a_default_and_a_top() {
        assert_eq!(list_length("limit", 0, 12), Ok(12));
        assert_eq!(list_length("limit", 5_000, 12), Ok(1_000));
        assert!(list_length("limit", -1, 12).is_err());
    }
}
