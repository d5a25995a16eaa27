//! How a command ends, in a way that scripts can rely on.

use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use runhub_client::Error;
use tonic::Code;

/// Why a command did not do what it was for.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    /// The reader of our output has gone, as `head` does: no failure to speak of.
    is_broken_pipe: bool,
}

impl Failure {
    /// Something failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), is_broken_pipe: false }
    }

    /// The command line can't be meant so.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, ..Self::failed(message) }
    }

    /// Says which server it was.
    pub fn at(self, server: &str) -> Self {
        Self { message: format!("{server}: {}", self.message), ..self }
    }

    /// Says so on standard error; returns the exit code.
    pub fn report(self) -> ExitCode {
        if self.is_broken_pipe {
            return ExitCode::SUCCESS;
        }
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(anstream::stderr(), "{red}error{red:#}: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match (&error, error.code()) {
            (Error::Unreachable(_), _) | (Error::Lost { .. }, Code::Unavailable) => 3,
            (Error::Address(_), _) => 2,
            (_, Code::NotFound) => 4,
            _ => 1,
        };
        let message = match &error {
            Error::Unreachable(cause) => format!("no server answers: {cause}"),
            Error::Lost { message, .. } if code == 3 => format!("no server answers: {message}"),
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
            runhub_bench::Error::Client(cause) => cause.into(),
            runhub_bench::Error::Io(cause) => cause.into(),
            runhub_bench::Error::Payload(_) | runhub_bench::Error::Address(_) => Self::usage(error.to_string()),
            other => Self::failed(other.to_string()),
        }
    }
}
