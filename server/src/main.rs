//! The binary `runhub`: parse, dispatch.

use std::process::ExitCode;

fn main() -> ExitCode {
    runhub_server::cli::main()
}
