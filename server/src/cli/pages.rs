//! Lists that come page by page.

use runhub_client::Error;

use super::Failure;

/// All of a list: `page` gets a page token and answers with what is on that page and the token of the next.
pub async fn all<T>(mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Error>) -> Result<Vec<T>, Failure> {
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
