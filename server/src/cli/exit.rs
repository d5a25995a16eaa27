//! The message and the exit code of a command that fails. Scripts can rely on the exit codes.

use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use runhub_client::Error;
use tonic::Code;

/// Exit codes. `runhub --help` documents them.
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const NO_SERVER: u8 = 3;
const NOT_FOUND: u8 = 4;

/// The failure of a command.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    /// The program that reads the output has ended, as `head` does. The command reports this as success.
    is_broken_pipe: bool,
}

impl Failure {
    /// Returns a failure with exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into(), is_broken_pipe: false }
    }

    /// Returns a failure with exit code 2: the command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: WRONG_USAGE, ..Self::failed(message) }
    }

    /// Puts the server's address in front of the message, unless the message is about the address.
    pub fn at_server(self, server: &str) -> Self {
        if self.code == WRONG_USAGE {
            return self;
        }
        Self { message: format!("{server}: {}", self.message), ..self }
    }

    /// Prints the message on standard error and returns the exit code.
    pub fn report(self) -> ExitCode {
        if self.is_broken_pipe {
            return ExitCode::SUCCESS;
        }
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        // Writing fails if standard error is closed, and then the message can't be shown anywhere.
        let _ = writeln!(anstream::stderr(), "{red}error{red:#}: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match (&error, error.code()) {
            (Error::Unreachable(_), _) | (Error::Lost { .. }, Code::Unavailable) => NO_SERVER,
            (Error::Address(_), _) => WRONG_USAGE,
            (_, Code::NotFound) => NOT_FOUND,
            _ => FAILED,
        };
        let message = match &error {
            Error::Unreachable(cause) => format!("no server answers: {cause}"),
            Error::Lost { message, .. } if code == NO_SERVER => format!("no server answers: {message}"),
            other => other.to_string(),
        };
        Self { code, ..Self::failed(message) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { is_broken_pipe: error.kind() == io::ErrorKind::BrokenPipe, ..Self::failed(error.to_string()) }
    }
}

impl From<runhub_bench::Error> for Failure {
    fn from(error: runhub_bench::Error) -> Self {
        match error {
            runhub_bench::Error::Connect { url, cause } => Self::from(*cause).at_server(&url),
            runhub_bench::Error::Client(cause) => cause.into(),
            runhub_bench::Error::Io(cause) => cause.into(),
            runhub_bench::Error::Payload(_) | runhub_bench::Error::Address(_) => Self::usage(error.to_string()),
            other => Self::failed(other.to_string()),
        }
    }
}
