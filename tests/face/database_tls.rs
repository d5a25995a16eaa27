//! The connections of the server to a PostgreSQL database on TCP: TLS in all modes of `sslmode`, and passwords.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use runhub_client::v1::*;
use runhub_test_postgres::Postgres;
use tempfile::TempDir;

use crate::support::binary::{Binary, refuse, serve_store};
use crate::support::calls::*;
use crate::support::database::shared_postgres;
use crate::support::until;

/// The host name in the certificate of the database. The parameter `hostaddr` makes a DNS server unnecessary.
const NAME: &str = "database.test";
const OTHER_NAME: &str = "impostor.test";

/// The password of the user `guarded` as a URL contains it. All characters that have a meaning in a URL are encoded.
const PASSWORD_IN_URL: &str = "hush%3F%40%2F%26";

const CREATE_USERS: &str =
    "CREATE ROLE guarded SUPERUSER LOGIN PASSWORD 'hush?@/&'; CREATE ROLE certified SUPERUSER LOGIN";

/// The user `guarded` needs TLS and a password, `certified` needs a certificate, and `runhub` needs nothing.
const ACCESS: &str = "
    local all all trust
    hostssl all guarded 127.0.0.1/32 scram-sha-256
    hostssl all certified 127.0.0.1/32 cert
    host all runhub 127.0.0.1/32 trust
";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn new_authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Returns a certificate and its private key, in PEM format.
fn certify(authority: &Authority, common_name: &str, hosts: &[&str]) -> (String, String) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// Returns the server with TLS that the tests share.
fn with_tls() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| {
        let (certificate, key) = certify(authority(), NAME, &[NAME]);
        let settings = ["ssl=on", "ssl_cert_file=server.pem", "ssl_key_file=server.key", "ssl_ca_file=ca.pem"];
        let files = [
            ("server.pem", certificate.as_str()),
            ("server.key", &key),
            ("ca.pem", &authority().pem()),
            ("pg_hba.conf", ACCESS),
        ];
        let postgres = Postgres::start_on_tcp(programs(), &settings, &files);
        postgres.run_sql("postgres", CREATE_USERS);
        postgres
    })
}

/// Returns the authority that has certified the database.
fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| new_authority("The authority of the test"))
}

fn programs() -> PathBuf {
    shared_postgres().programs().to_owned()
}

/// A new database, and the files of its client.
struct Database {
    postgres: &'static Postgres,
    name: String,
    files: TempDir,
}

impl Database {
    fn new(postgres: &'static Postgres) -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("ca.pem"), authority().pem()).unwrap();
        fs::write(files.path().join("other_ca.pem"), new_authority("Another authority").pem()).unwrap();
        Self { postgres, name: postgres.create_named_database(), files }
    }

    /// Returns the path of a file of the client.
    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Returns the URL with parameters in which `CA` and `OTHER_CA` stand for the files with these certificates.
    fn url(&self, user: &str, host: &str, parameters: &str) -> String {
        let path = |name| self.file(name).display().to_string();
        let parameters = parameters.replace("=CA", &format!("={}", path("ca.pem")));
        let parameters = parameters.replace("=OTHER_CA", &format!("={}", path("other_ca.pem")));
        let Self { postgres, name, .. } = self;
        format!("postgres://{user}@{host}:{}/{name}?hostaddr=127.0.0.1&{parameters}", postgres.port())
    }

    /// Returns whether each session of the Runhub server uses TLS.
    fn read_sessions(&self) -> Vec<bool> {
        let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE datname = current_database() AND application_name = 'runhub'";
        let mut results = runhub_test_postgres::query(&self.postgres.url(&self.name), "", &[sql]);
        results.remove(0).into_iter().map(|row| row[0].as_deref() == Some("t")).collect()
    }
}

/// Starts a Runhub server, which must work, and returns whether its sessions use TLS.
async fn uses_tls(database: &Database, url: &str) -> bool {
    let server = Binary::spawn(serve_store(url, &["--log", "error"]));
    new_run(&server.connect().await).await;
    let mut sessions = Vec::new();
    // One session writes, one reads, and one receives notifications.
    until(async || {
        sessions = database.read_sessions();
        sessions.len() >= 3
    })
    .await;
    assert!(sessions.iter().all(|uses_tls| *uses_tls == sessions[0]), "{url}: {sessions:?}");
    sessions[0]
}

/// Starts a Runhub server, which must refuse to start, and returns the error message.
fn refuse_url(url: &str) -> String {
    refuse(serve_store(url, &[]))
}

#[tokio::test(flavor = "multi_thread")]
async fn sslmode_decides_whether_the_sessions_use_tls() {
    for (host, parameters, expected) in [
        (OTHER_NAME, "sslmode=disable", false),
        (OTHER_NAME, "sslmode=prefer", true),
        (OTHER_NAME, "", true),
        (OTHER_NAME, "sslmode=require", true),
        (OTHER_NAME, "sslmode=require&sslrootcert=CA", true),
        (OTHER_NAME, "sslmode=verify-ca&sslrootcert=CA", true),
        (NAME, "sslmode=verify-full&sslrootcert=CA", true),
    ] {
        let database = Database::new(with_tls());
        let url = database.url("runhub", host, parameters);
        assert_eq!(uses_tls(&database, &url).await, expected, "{host} {parameters}");
    }
}

#[test]
fn certificate_of_an_unknown_authority_is_refused() {
    let database = Database::new(with_tls());
    for parameters in [
        "sslmode=require&sslrootcert=OTHER_CA",
        "sslmode=verify-ca&sslrootcert=OTHER_CA",
        "sslmode=verify-full&sslrootcert=OTHER_CA",
    ] {
        let error = refuse_url(&database.url("runhub", NAME, parameters));
        assert!(error.contains("authority"), "{parameters}: {error}");
    }
}

/// Without `sslrootcert`, the server trusts the authorities of the operating system.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_the_system_are_the_default() {
    let database = Database::new(with_tls());
    let url = database.url("runhub", NAME, "sslmode=verify-full");
    let serve = |authorities: &str| {
        let mut command = serve_store(&url, &[]);
        command.env("SSL_CERT_FILE", database.file(authorities)).env_remove("SSL_CERT_DIR");
        command
    };
    assert!(refuse(serve("other_ca.pem")).contains("authority"));
    new_run(&Binary::spawn(serve("ca.pem")).connect().await).await;
}

#[test]
fn certificate_of_another_host_is_refused_by_verify_full() {
    let database = Database::new(with_tls());
    for host in [OTHER_NAME, "127.0.0.1"] {
        let error = refuse_url(&database.url("runhub", host, "sslmode=verify-full&sslrootcert=CA"));
        assert!(error.contains("certificate") && error.contains(host) && error.contains(NAME), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn database_without_tls_is_refused_unless_tls_is_optional() {
    static WITHOUT_TLS: OnceLock<Postgres> = OnceLock::new();
    let postgres = WITHOUT_TLS.get_or_init(|| Postgres::start_on_tcp(programs(), &[], &[]));
    for parameters in ["sslmode=disable", "sslmode=prefer"] {
        let database = Database::new(postgres);
        assert!(!uses_tls(&database, &database.url("runhub", NAME, parameters)).await, "{parameters}");
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let database = Database::new(postgres);
        let error = refuse_url(&database.url("runhub", NAME, &format!("sslmode={mode}&sslrootcert=CA")));
        assert!(error.contains("server does not support TLS"), "{mode}: {error}");
    }
}

#[test]
fn unreadable_file_with_certificates_is_refused() {
    let database = Database::new(with_tls());
    fs::write(database.file("empty.pem"), "").unwrap();
    for name in ["missing.pem", "empty.pem"] {
        let parameters = format!("sslmode=verify-full&sslrootcert={}", database.file(name).display());
        let output = serve_store(&database.url("runhub", NAME, &parameters), &[]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(name), "{error}");
    }
}

/// The database accepts the user only with a certificate of its authority for this user.
#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_authenticates_the_server() {
    let database = Database::new(with_tls());
    let url_with = |common_name: &str| {
        let (certificate, key) = certify(authority(), common_name, &[]);
        let [certificate_file, key_file] = ["pem", "key"].map(|end| database.file(&format!("{common_name}.{end}")));
        fs::write(&certificate_file, certificate).unwrap();
        fs::write(&key_file, key).unwrap();
        let files = format!("sslcert={}&sslkey={}", certificate_file.display(), key_file.display());
        database.url("certified", NAME, &format!("sslmode=require&{files}"))
    };
    assert!(uses_tls(&database, &url_with("certified")).await);
    assert!(refuse_url(&url_with("somebody")).contains("authentication failed for user"));
    assert!(refuse_url(&database.url("certified", NAME, "sslmode=require")).contains("certificate"));
}

/// Returns the command that starts a server, which writes messages of all levels to a file.
fn serve_verbosely(url: &str, messages: &Path) -> Command {
    let mut command = serve_store(url, &["--log", "trace"]);
    command.stderr(fs::File::create(messages).unwrap());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn password_works_and_is_never_shown() {
    let database = Database::new(with_tls());
    let messages = database.file("messages");
    let user = format!("guarded:{PASSWORD_IN_URL}");
    let password = format!("sslmode=require&password={PASSWORD_IN_URL}");
    for url in
        [database.url(&user, NAME, "sslmode=verify-full&sslrootcert=CA"), database.url("guarded", NAME, &password)]
    {
        let server = Binary::spawn(serve_verbosely(&url, &messages));
        let info = server.connect().await.get_server_info(GetServerInfoRequest {}).await.unwrap();
        assert!(info.store.contains("postgres://guarded@database.test"), "{}", info.store);
        let shown = [info.store, server.first_line.clone(), fs::read_to_string(&messages).unwrap()].concat();
        assert!(shown.contains("listening"), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[test]
fn wrong_password_is_refused_and_never_shown() {
    let database = Database::new(with_tls());
    let messages = database.file("messages");
    for (user, parameters, cause) in [
        ("guarded:hush-wrong", "sslmode=require", "password authentication failed for user"),
        ("guarded", "sslmode=require", "password"),
        ("guarded:hush-wrong", "sslmode=disable", "no pg_hba.conf entry for host"),
    ] {
        let url = database.url(user, NAME, parameters);
        let Err(server) = Binary::try_spawn(serve_verbosely(&url, &messages)) else {
            panic!("{url}: the server started")
        };
        assert_eq!(server.wait_with_output().unwrap().status.code(), Some(1), "{url}");
        let shown = fs::read_to_string(&messages).unwrap();
        assert!(shown.contains(cause), "{cause}: {shown}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}
