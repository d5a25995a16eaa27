//! This module connects to the first host of a database that accepts writes.
//!
//! A database whose process is stopped accepts connections and never answers. The library limits only the time to connect,
//! and would wait for the answer forever. Therefore, each host gets a configuration and a time limit of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::errors::describe;

/// Maximum time after the time to connect in which a host must complete the TLS handshake and accept the user.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Specifies why the server can't connect to the database. If the URL names several hosts, the error is the error of the
/// last host.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{}", describe(.0))]
    Failed(#[from] tokio_postgres::Error),
    #[error("the database did not answer within {0:?}")]
    Silent(Duration),
    #[error("the URL names no host")]
    NoHost,
}

/// The hosts of a database, of which at most one accepts writes.
pub(super) struct Hosts {
    configs: Vec<Config>,
    /// Index of the host that has accepted the last connection. The next connection tries this host first, so that a host
    /// that never answers delays only one connection.
    preferred: AtomicUsize,
}

impl Hosts {
    /// Returns the hosts of the configuration `all`. `without_hosts` is the configuration that `all` has without its hosts.
    pub fn new(all: &Config, without_hosts: &Config) -> Self {
        Self { configs: split(all, without_hosts), preferred: AtomicUsize::new(0) }
    }

    /// Returns the configuration of each host.
    #[cfg(test)]
    pub fn configs(&self) -> &[Config] {
        &self.configs
    }

    /// Connects to the first host that accepts writes. Fails if there is no such host.
    pub async fn connect(
        &self,
        tls: &MakeRustlsConnect,
    ) -> Result<(Client, Connection<Socket, TlsStream>), ConnectError> {
        let mut connected = Err(ConnectError::NoHost);
        let first = self.preferred.load(Ordering::Relaxed);
        for at in (first..self.configs.len()).chain(0..first) {
            connected = connect_to(&self.configs[at], tls.clone()).await;
            if connected.is_ok() {
                self.preferred.store(at, Ordering::Relaxed);
                break;
            }
        }
        connected
    }
}

async fn connect_to(
    host: &Config,
    tls: MakeRustlsConnect,
) -> Result<(Client, Connection<Socket, TlsStream>), ConnectError> {
    let limit = host.get_connect_timeout().copied().unwrap_or_default() + ANSWER_TIMEOUT;
    match tokio::time::timeout(limit, host.connect(tls)).await {
        Ok(answered) => answered.map_err(ConnectError::Failed),
        Err(_) => Err(ConnectError::Silent(limit)),
    }
}

/// Returns the configuration of each host. If the library chooses among the hosts at random, the hosts stay together: no
/// host is then always the first.
fn split(all: &Config, without_hosts: &Config) -> Vec<Config> {
    if all.get_load_balance_hosts() == LoadBalanceHosts::Random {
        return vec![all.clone()];
    }
    let count = all.get_hosts().len().max(all.get_hostaddrs().len());
    (0..count).map(|at| with_host(without_hosts.clone(), all, at)).collect()
}

/// Adds the host with the index `at` to a configuration without hosts.
fn with_host(mut config: Config, all: &Config, at: usize) -> Config {
    match all.get_hosts().get(at) {
        Some(Host::Tcp(name)) => drop(config.host(name)),
        Some(Host::Unix(folder)) => drop(config.host_path(folder)),
        None => {}
    }
    if let Some(address) = all.get_hostaddrs().get(at) {
        config.hostaddr(*address);
    }
    // A single port applies to all hosts.
    if let Some(port) = all.get_ports().get(at).or(all.get_ports().first()) {
        config.port(*port);
    }
    config
}

/// Returns a URL without its hosts and their ports.
pub(super) fn remove_hosts(url: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let start = base.find('@').map(|at| at + 1).or_else(|| base.find("://").map(|at| at + 3)).unwrap_or(0);
    let (before, hosts) = base.split_at(start);
    let path = hosts.find('/').map_or("", |at| &hosts[at..]);
    let is_kept = |parameter: &&str| !matches!(parameter.split('=').next(), Some("host" | "hostaddr" | "port"));
    let query: Vec<&str> = query.split('&').filter(is_kept).collect();
    format!("{before}{path}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_url(url: &str) -> Vec<Config> {
        split(&url.parse().unwrap(), &remove_hosts(url).parse().unwrap())
    }

    #[test]
    fn each_host_keeps_the_parameters_of_the_url() {
        let cases: [(&str, &[&str]); 5] = [
            (
                "postgres://ann:pw@a,b:5433/work?connect_timeout=3",
                &["postgres://ann:pw@a:5432/work?connect_timeout=3", "postgres://ann:pw@b:5433/work?connect_timeout=3"],
            ),
            (
                "postgres://ann@%2Frun%2Fa,%2Frun%2Fb/work",
                &["postgres://ann@/work?host=/run/a&port=5432", "postgres://ann@/work?host=/run/b&port=5432"],
            ),
            (
                "postgresql://a,b?user=ann&hostaddr=127.0.0.1,127.0.0.2",
                &["postgresql://a:5432?user=ann&hostaddr=127.0.0.1", "postgresql://b:5432?user=ann&hostaddr=127.0.0.2"],
            ),
            ("postgres://ann@/work?hostaddr=127.0.0.1", &["postgres://ann@/work?hostaddr=127.0.0.1"]),
            ("postgres:///work", &[]),
        ];
        for (url, expected) in cases {
            let expected: Vec<Config> = expected.iter().map(|url| url.parse().unwrap()).collect();
            assert_eq!(split_url(url), expected, "{url}");
        }
    }

    #[test]
    fn hosts_in_random_order_stay_together() {
        let url = "postgres://a,b/work?load_balance_hosts=random";
        assert_eq!(split_url(url), [url.parse().unwrap()]);
    }
}
