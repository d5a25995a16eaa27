//! This module defines the messages and exit codes of commands that fail. Scripts can rely on the exit codes.

use std::io;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use runhub_client::Error;
use tonic::Code;

use super::out::{Line, Out};

/// The exit code of a command that failed for a reason without an exit code of its own. `runhub --help` documents all
/// exit codes.
const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const NO_SERVER: u8 = 3;
const NOT_FOUND: u8 = 4;

/// Represents the failure of a command.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    /// Whether the program that reads the output of the command has ended, as `head` does after its last line. If true,
    /// the command reports success.
    is_broken_pipe: bool,
}

impl Failure {
    /// Returns a failure with exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into(), is_broken_pipe: false }
    }

    /// Returns a failure with exit code 2, which means that the command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: WRONG_USAGE, ..Self::failed(message) }
    }

    /// Returns the failure with the server's address at the start of the message. A failure with exit code 2 stays
    /// unchanged, because the message of that failure already contains the address.
    pub fn with_server_address(self, server: &str) -> Self {
        if self.code == WRONG_USAGE {
            return self;
        }
        Self { message: format!("{server}: {}", self.message), ..self }
    }

    /// Prints the failure's message to standard error and returns the failure's exit code. For a broken pipe, the
    /// function prints nothing and returns success.
    pub fn report(self) -> ExitCode {
        if self.is_broken_pipe {
            return ExitCode::SUCCESS;
        }
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        // If standard error is closed, the write fails. The error is ignored, because no other output can show the
        // message.
        let _ = Out::stderr().print(Line::new().styled(red, "error").text(format_args!(": {}", self.message)));
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
            runhub_bench::Error::Connect { url, cause } => Self::from(*cause).with_server_address(&url),
            runhub_bench::Error::Client(cause) => cause.into(),
            runhub_bench::Error::Io(cause) => cause.into(),
            runhub_bench::Error::Payload(_) | runhub_bench::Error::Address(_) => Self::usage(error.to_string()),
            other => Self::failed(other.to_string()),
        }
    }
}
