//! This program is the test server: a server behind a proxy, for scenario runners in any language. The program executes
//! commands from standard input. client/scenarios/README.md describes the commands.

// The program prints its responses to standard output.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use runhub_scenarios::TestServer;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[derive(Parser)]
struct Args {
    /// The path of the runhub binary. Default: the binary that was built with this program
    #[arg(long, env = "RUNHUB_BIN")]
    runhub: Option<PathBuf>,
    /// The path of an nginx to run in front of the proxy. Default: clients connect to the proxy itself
    #[arg(long, env = "RUNHUB_TEST_NGINX")]
    nginx: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let binary = match args.runhub {
        Some(binary) => binary,
        None => built_binary()?,
    };
    let mut test_server = TestServer::open(&binary, args.nginx.as_deref()).await?;
    println!("ready {} {} {}", test_server.address(), test_server.binary().display(), test_server.direct_address());
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match test_server.execute(line.trim()).await {
            Ok(()) => println!("ok"),
            Err(why) => println!("failed: {why:#}"),
        }
    }
    Ok(())
}

/// Returns the path of `runhub` in the build folder, which is the parent of the folder with the examples.
fn built_binary() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let folder = executable
        .parent()
        .and_then(Path::parent)
        .context("the test server's file has no parent folder: pass the path of runhub with --runhub")?;
    Ok(folder.join("runhub"))
}
