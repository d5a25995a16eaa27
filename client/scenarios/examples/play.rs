//! The runner for the Rust client. See the README in this folder.

// What it prints is the report.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use runhub_scenarios::{Place, Scenario, Stage, play};

#[derive(Parser)]
struct Args {
    /// Play against this server; without it each scenario has a stage of its own
    #[arg(long)]
    server: Option<String>,
    /// Play this part only
    #[arg(long)]
    part: Option<String>,
    /// The binary of runhub; without it the one that was built beside this
    #[arg(long, env = "RUNHUB_BIN")]
    runhub: Option<PathBuf>,
    /// The scenarios
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut code = ExitCode::SUCCESS;
    for file in &args.files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let begun = Instant::now();
        let passed = play_file(&args, file).await;
        let millis = begun.elapsed().as_millis();
        println!("{name}\trust\t{}\t{millis}", if passed.is_ok() { "ok" } else { "FAILED" });
        if let Err(why) = passed {
            eprintln!("{name}: {why:#}");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn play_file(args: &Args, file: &Path) -> Result<()> {
    let binary = match &args.runhub {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.parent().and_then(Path::parent).context("no folder")?.join("runhub"),
    };
    let place = match &args.server {
        Some(address) => Place { address: address.clone(), binary, direct_address: address.clone(), stage: None },
        None => Stage::open(&binary).await?.into(),
    };
    play(&Scenario::read(file)?, args.part.as_deref(), &place).await
}
