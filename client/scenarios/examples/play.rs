//! The runner for the Rust client. The README in this folder describes its arguments and output.

// The runner prints its report.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use runhub_scenarios::{Place, Scenario, Stage, play};

#[derive(Parser)]
struct Args {
    /// The server to play against; default: each scenario starts a stage of its own
    #[arg(long)]
    server: Option<String>,
    /// The only part to play; default: all parts
    #[arg(long)]
    part: Option<String>,
    /// The runhub binary; default: the one that was built with this runner
    #[arg(long, env = "RUNHUB_BIN")]
    runhub: Option<PathBuf>,
    /// The scenario files
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut code = ExitCode::SUCCESS;
    for file in &args.files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let began = Instant::now();
        let outcome = play_file(&args, file).await;
        let millis = began.elapsed().as_millis();
        println!("{name}\trust\t{}\t{millis}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if let Err(why) = outcome {
            eprintln!("{name}: {why:#}");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn play_file(args: &Args, file: &Path) -> Result<()> {
    let binary = match &args.runhub {
        Some(binary) => binary.clone(),
        None => built_binary()?,
    };
    let place = match &args.server {
        Some(address) => Place { address: address.clone(), binary, direct_address: address.clone(), stage: None },
        None => Stage::open(&binary).await?.into(),
    };
    play(&Scenario::read(file)?, args.part.as_deref(), &place).await
}

/// Returns the path of `runhub` in the folder above this example's.
fn built_binary() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let folder = executable.parent().and_then(Path::parent).context("the runner's file has no parent folder")?;
    Ok(folder.join("runhub"))
}
