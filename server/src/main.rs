//! This is the binary `runhub`. `cli::main` parses the command line and runs the command.

use std::process::ExitCode;

fn main() -> ExitCode {
    runhub_server::cli::main()
}
