//! This module parses the address of a PostgreSQL database. The address is a URL as libpq accepts it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::errors::describe;
use super::hosts::{self, ConnectError, Hosts, TlsStream};
use super::tls::{self, TlsFiles, Verification};

/// Maximum time to connect to one host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum time in which the database must acknowledge sent data. Afterwards, the connection is lost.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// The settings of each session. A statement is planned once, for all values, and its rows are found by an index and
/// read in the order of the index, as on SQLite. A server that stops in a transaction loses the connection after a
/// second, because the transaction holds the lock for which all servers wait.
const SESSION: &str = "-c plan_cache_mode=force_generic_plan -c jit=off -c enable_seqscan=off -c enable_sort=off \
    -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c lock_timeout=10s \
    -c idle_in_transaction_session_timeout=1s -c client_min_messages=warning -c default_transaction_isolation=read\\ committed";

/// The address of a PostgreSQL database. The text form of the address never contains a password.
#[derive(Clone)]
pub struct PostgresAddress(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    config: Config,
    hosts: Arc<Hosts>,
    tls: MakeRustlsConnect,
    schema: String,
    /// Whether a server creates and migrates the tables.
    allows_migration: bool,
}

impl PostgresAddress {
    /// Returns whether a text is the URL of a PostgreSQL database.
    pub fn is_url(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Returns the address for a server that must not create or migrate the tables.
    pub fn without_migration(&self) -> Self {
        Self(Arc::new(Parts { allows_migration: false, ..Parts::clone(&self.0) }))
    }

    pub(super) fn allows_migration(&self) -> bool {
        self.0.allows_migration
    }

    /// Opens a connection that reads and writes. Fails if no host of the address accepts writes.
    pub(super) async fn connect(&self) -> Result<(Client, Connection<Socket, TlsStream>), ConnectError> {
        self.0.hosts.connect(&self.0.tls).await
    }

    /// Returns the name of the schema that contains the tables.
    pub(super) fn schema(&self) -> &str {
        &self.0.schema
    }
}

impl FromStr for PostgresAddress {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let parameters = Parameters::split_from(url)?;
        let tls = tls::connector(parameters.verification()?, &parameters.files)?;
        let config = parameters.configure(&parameters.rest)?;
        let without_hosts = parameters.configure(&hosts::remove_hosts(&parameters.rest))?;
        Ok(Self(Arc::new(Parts {
            hosts: Arc::new(Hosts::new(&config, &without_hosts)),
            config,
            tls,
            schema: DEFAULT_SCHEMA.to_owned(),
            allows_migration: true,
        })))
    }
}

/// Name of the schema of the namespace `default`.
const DEFAULT_SCHEMA: &str = "default";

/// Adds the parameters that the server needs, and the defaults of the parameters that the URL does not contain.
fn complete(mut config: Config) -> Config {
    let options = match config.get_options() {
        Some(own) => format!("{own} {SESSION}"),
        None => SESSION.to_owned(),
    };
    config.options(format!("{options} -c search_path=\"{DEFAULT_SCHEMA}\""));
    if config.get_application_name().is_none() {
        config.application_name("runhub");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED);
    }
    if config.get_password().is_none()
        && let Ok(password) = std::env::var("PGPASSWORD")
    {
        config.password(password);
    }
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config
}

/// The parameters of a URL that the PostgreSQL library does not know, and the rest of the URL.
struct Parameters {
    ssl_mode: SslMode,
    verify: Option<Verification>,
    files: TlsFiles,
    rest: String,
}

impl Parameters {
    fn split_from(url: &str) -> Result<Self, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        // Without the check, a part of the password could become a host or a parameter, and hide the parameters for TLS.
        if query.contains(['?', '@']) || base.matches('@').count() > 1 {
            return Err("it has a misplaced ? or @: write %3F or %40 in the password and the parameters".to_owned());
        }
        let mut parameters =
            Self { ssl_mode: SslMode::Prefer, verify: None, files: TlsFiles::default(), rest: String::new() };
        let mut rest = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if name == "host" {
                // As libpq does, accept several hosts. The PostgreSQL library takes one host from each parameter.
                rest.extend(value.split(',').map(|host| format!("host={host}")));
            } else if !parameters.set(name, value)? {
                rest.push(parameter.to_owned());
            }
        }
        parameters.rest = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        Ok(parameters)
    }

    /// Sets a parameter for TLS. Returns false if the parameter has another purpose.
    fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let file = || decode(name, value).map(|path| Some(PathBuf::from(path)));
        match name {
            "sslmode" => self.set_mode(&decode(name, value)?)?,
            "sslrootcert" => self.files.root_certificates = file()?,
            "sslcert" => self.files.certificate = file()?,
            "sslkey" => self.files.key = file()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_mode(&mut self, mode: &str) -> Result<(), String> {
        (self.ssl_mode, self.verify) = match mode {
            "disable" => (SslMode::Disable, None),
            "prefer" => (SslMode::Prefer, None),
            "require" => (SslMode::Require, None),
            "verify-ca" => (SslMode::Require, Some(Verification::Authority)),
            "verify-full" => (SslMode::Require, Some(Verification::AuthorityAndName)),
            other => {
                return Err(format!(
                    "sslmode={other} is not known: use disable, prefer, require, verify-ca or verify-full"
                ));
            }
        };
        Ok(())
    }

    /// Returns the configuration that a URL without the parameters for TLS describes.
    fn configure(&self, url: &str) -> Result<Config, String> {
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            format!("it is not a valid URL of a PostgreSQL database: {}", describe(&error))
        })?;
        config.ssl_mode(self.ssl_mode);
        Ok(complete(config))
    }

    /// Returns how the certificate of the database is verified. As in libpq, a file with root certificates turns
    /// `require` into `verify-ca`.
    fn verification(&self) -> Result<Verification, String> {
        let has_roots = self.files.root_certificates.is_some();
        Ok(match self.verify {
            Some(verify) => verify,
            None if has_roots && self.ssl_mode == SslMode::Require => Verification::Authority,
            None => Verification::Nothing,
        })
    }
}

fn decode(name: &str, value: &str) -> Result<String, String> {
    let decoded = percent_decode_str(value).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| format!("the value of {name} is not percent-encoded UTF-8"))
}

/// Shows the user, the hosts and the name of the database.
impl fmt::Display for PostgresAddress {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str("postgres://")?;
        if let Some(user) = self.0.config.get_user() {
            write!(to, "{user}@")?;
        }
        for (at, host) in self.0.config.get_hosts().iter().enumerate() {
            if at > 0 {
                to.write_str(",")?;
            }
            match host {
                Host::Tcp(name) => to.write_str(name)?,
                Host::Unix(folder) => write!(to, "{}", folder.display())?,
            }
            // One port holds for all hosts.
            let ports = self.0.config.get_ports();
            if let Some(port) = ports.get(at).or(ports.first()) {
                write!(to, ":{port}")?;
            }
        }
        write!(to, "/{}", self.0.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresAddress {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> PostgresAddress {
        url.parse().unwrap()
    }

    #[test]
    fn address_shows_no_password() {
        let shown = [
            ("postgres://ann:secret@db.example/work", "postgres://ann@db.example:5432/work"),
            ("postgresql://ann@a,b:5433/work?password=secret&sslmode=require", "postgres://ann@a:5432,b:5433/work"),
            ("postgres://ann@/work?host=/run/pg&port=5433", "postgres://ann@/run/pg:5433/work"),
            ("postgres://ann@/work?host=/run/pg,db&port=5433,5434", "postgres://ann@/run/pg:5433,db:5434/work"),
        ];
        for (url, expected) in shown {
            let address = parse(url);
            assert_eq!(address.to_string(), expected);
            assert!(!format!("{address:?}").contains("secret"));
        }
    }

    #[test]
    fn ssl_modes_are_those_of_libpq() {
        let modes = [
            ("disable", SslMode::Disable, Verification::Nothing),
            ("prefer", SslMode::Prefer, Verification::Nothing),
            ("require", SslMode::Require, Verification::Nothing),
            ("require&sslrootcert=ca.pem", SslMode::Require, Verification::Authority),
            ("verify-ca", SslMode::Require, Verification::Authority),
            ("verify-full", SslMode::Require, Verification::AuthorityAndName),
        ];
        for (mode, ssl_mode, verification) in modes {
            let parameters = Parameters::split_from(&format!("postgres://a@b/c?sslmode={mode}")).unwrap();
            assert_eq!((parameters.ssl_mode, parameters.verification()), (ssl_mode, Ok(verification)), "{mode}");
            assert_eq!(parameters.rest, "postgres://a@b/c");
        }
        assert!("postgres://a@b/c?sslmode=allow".parse::<PostgresAddress>().unwrap_err().contains("verify-full"));
    }

    #[test]
    fn invalid_url_is_refused_without_its_password() {
        let urls = [
            "postgres://a:secret@b:port/c",
            "postgres://a:secret@b/c?unknown=1",
            "postgres://a@b/c?password=secret%ff",
            "postgres://a:is?secret@b/c?sslmode=require",
            "postgres://a:is@secret@b/c",
            "postgres://b/c?user=a&password=is@secret",
        ];
        for url in urls {
            let error = url.parse::<PostgresAddress>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn password_can_have_all_characters() {
        let password = |url: &str| parse(url).0.hosts.configs()[0].get_password().map(<[u8]>::to_vec);
        for url in ["postgres://a:%3F%40%2F%26@b/c?sslmode=require", "postgres://a@b/c?password=%3F%40%2F%26"] {
            assert_eq!(password(url), Some(b"?@/&".to_vec()), "{url}");
        }
    }
}
