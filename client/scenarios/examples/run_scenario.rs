//! This program is the scenario runner for the Rust client. client/scenarios/README.md describes the arguments and the
//! output of a runner.

// The runner prints its report to standard output and its errors to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use runhub_scenarios::{Scenario, TargetServer, TestServer, run_scenario};

#[derive(Parser)]
struct Args {
    /// The address of the server to run the scenarios against. Default: each scenario starts its own test server
    #[arg(long)]
    server: Option<String>,
    /// The only participant whose steps to run. Default: all participants
    #[arg(long)]
    participant: Option<String>,
    /// The path of the runhub binary. Default: the binary that was built with this runner
    #[arg(long, env = "RUNHUB_BIN")]
    runhub: Option<PathBuf>,
    /// The path of an nginx to run in front of each test server's proxy. Default: the client connects to the proxy
    /// itself
    #[arg(long, env = "RUNHUB_TEST_NGINX")]
    nginx: Option<PathBuf>,
    /// The scenario files to run
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
        let outcome = run_file(&args, file).await;
        let millis = began.elapsed().as_millis();
        println!("{name}\trust\t{}\t{millis}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if let Err(why) = outcome {
            eprintln!("{name}: {why:#}");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn run_file(args: &Args, file: &Path) -> Result<()> {
    let binary = match &args.runhub {
        Some(binary) => binary.clone(),
        None => built_binary()?,
    };
    let server = match &args.server {
        Some(address) => {
            TargetServer { address: address.clone(), binary, direct_address: address.clone(), test_server: None }
        }
        None => TestServer::open(&binary, args.nginx.as_deref()).await?.into(),
    };
    run_scenario(&Scenario::read(file)?, args.participant.as_deref(), &server).await
}

/// Returns the path of `runhub` in the build folder, which is the parent of the folder with the examples.
fn built_binary() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let folder = executable
        .parent()
        .and_then(Path::parent)
        .context("the runner's file has no parent folder: pass the path of runhub with --runhub")?;
    Ok(folder.join("runhub"))
}
