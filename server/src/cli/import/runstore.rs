//! stub for check
use super::Failure;
use clap::Args;
#[derive(Args)]
pub struct RunstoreArgs {}
pub async fn run(_: RunstoreArgs) -> Result<(), Failure> {
    Ok(())
}
