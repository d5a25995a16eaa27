//! This module defines the configuration of a server.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::housekeeping::RetentionTimes;
use crate::store::Location;

/// The settings of `runhub serve`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address that the server listens on.
    pub listen: Listen,
    /// The location of the database.
    pub store: Location,
    /// The address at which clients and other servers reach the server, for the list of servers.
    pub advertise: Option<String>,
    /// Maximum time that a shutdown waits for open calls and streams to end.
    pub drain: Duration,
    /// The retention times of stored responses and of events.
    pub keep: RetentionTimes,
    /// The lease duration of a claim that requests none.
    pub default_lease: Duration,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Maximum memory for requests that the server has not decoded yet and for responses that are not sent yet, in
    /// bytes.
    pub max_buffered: usize,
    /// Maximum size of the temporary files with the snapshots and large events that watchers have not read yet, in
    /// bytes.
    pub max_spool: u64,
    /// Maximum number of these temporary files.
    pub max_spool_files: usize,
}

/// The default maximum number of open connections.
pub const DEFAULT_MAX_CONNECTIONS: usize = 10_000;
/// The default maximum memory for requests and responses: 256 MiB.
pub const DEFAULT_MAX_BUFFERED: usize = 256 * 1024 * 1024;
/// The default maximum size of the temporary files: 4 GiB.
pub const DEFAULT_MAX_SPOOL: u64 = 4 * 1024 * 1024 * 1024;
/// The default maximum number of temporary files.
pub const DEFAULT_MAX_SPOOL_FILES: usize = 1_000;
/// The lowest maximum memory for requests and responses: 160 MiB. One connection has an eighth of this memory, which
/// must be enough for the largest response (16 MiB).
pub const MIN_MAX_BUFFERED: usize = 160 * 1024 * 1024;

/// An address that a server listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An IP address and a TCP port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Returns whether the address can be reached only from this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("the address unix: has no path: pass a path, such as unix:/run/runhub.sock".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("{text:?} is neither IP:PORT (127.0.0.1:50051) nor unix:PATH")),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(to, "{address}"),
            Self::Unix(path) => write!(to, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_text_parses_to_the_same_address() {
        for text in ["127.0.0.1:50051", "[::1]:0", "unix:/tmp/runhub.sock"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        assert!("localhost:1".parse::<Listen>().is_err());
        assert!("unix:".parse::<Listen>().is_err());
    }

    #[test]
    fn only_loopback_and_unix_sockets_are_local() {
        for (text, local) in [("127.0.0.1:1", true), ("[::1]:1", true), ("0.0.0.0:1", false), ("unix:x", true)] {
            assert_eq!(text.parse::<Listen>().unwrap().is_local(), local, "{text}");
        }
    }
}
