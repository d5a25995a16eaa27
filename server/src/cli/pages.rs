//! This module fetches paged lists.

use runhub_client::Error;

use super::Failure;

/// Returns all items of a paged list. `page` takes a page token, and returns the items of the page and the token of the
/// next page. Fails if a page can't be fetched.
pub async fn fetch_all<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Error>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let (items, next_page_token) = page(page_token).await?;
        found.extend(items);
        if next_page_token.is_empty() {
            return Ok(found);
        }
        page_token = next_page_token;
    }
}
