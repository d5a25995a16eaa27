//! The stage for runners in any language. It takes commands on standard input; the README in this folder describes them.

// The stage answers on standard output.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use runhub_scenarios::Stage;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[derive(Parser)]
struct Args {
    /// The runhub binary; default: the one that was built with this stage
    #[arg(long, env = "RUNHUB_BIN")]
    runhub: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let binary = match Args::parse().runhub {
        Some(binary) => binary,
        None => built_binary()?,
    };
    let mut stage = Stage::open(&binary).await?;
    println!("ready {} {} {}", stage.address(), stage.binary().display(), stage.direct_address());
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match stage.execute(line.trim()).await {
            Ok(()) => println!("ok"),
            Err(why) => println!("failed: {why:#}"),
        }
    }
    Ok(())
}

/// Returns the path of `runhub` in the folder above this example's.
fn built_binary() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let folder = executable.parent().and_then(Path::parent).context("the stage's file has no parent folder")?;
    Ok(folder.join("runhub"))
}
