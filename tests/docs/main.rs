//! The pages: the reference is what the protos generate, links lead somewhere, and the commands shown are valid.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod concepts;
mod markdown;
mod pages;
mod paths;
mod reference;
mod server;
mod walks;

use std::path::Path;

/// Returns the root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
