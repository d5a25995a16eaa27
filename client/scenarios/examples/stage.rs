//! The stage for runners in any language, told what to do by lines on standard input. See the README in this folder.

// What it prints is its answer.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use runhub_scenarios::Stage;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[derive(Parser)]
struct Args {
    /// The server's binary; without it the one that was built beside this
    #[arg(long, env = "RUNHUB_BIN")]
    runhub: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let binary = match Args::parse().runhub {
        Some(binary) => binary,
        None => {
            std::env::current_exe()?.parent().and_then(|folder| folder.parent()).context("no folder")?.join("runhub")
        }
    };
    let mut stage = Stage::open(&binary).await?;
    println!("ready {} {} {}", stage.address(), stage.binary().display(), stage.direct_address());
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match stage.act(line.trim()).await {
            Ok(()) => println!("ok"),
            Err(why) => println!("failed: {why:#}"),
        }
    }
    Ok(())
}
