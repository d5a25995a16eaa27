//! Starts PostgreSQL in a temporary folder for the tests of one process, and creates a database for each test.
//!
//! PostgreSQL runs as an unprivileged user, listens only on a unix socket unless a test needs TCP, and ends with the
//! process of the tests, even if that process is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // Only tests use this crate.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Folders that contain the programs of PostgreSQL, newest version first.
fn program_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    for parent in ["/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt", "/usr/pgsql"] {
        let versions = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        folders.extend(versions.into_iter().rev());
    }
    folders
}

/// Returns the folder with the programs of PostgreSQL, or None with a loud warning if PostgreSQL is not installed.
///
/// # Panics
/// Panics without PostgreSQL if the variable `CI` is set, because CI must skip no test.
pub fn find_programs() -> Option<PathBuf> {
    let is_there = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    let Some(folder) = program_folders().into_iter().find(is_there) else {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is missing, but CI must run its tests");
        eprintln!("!!! POSTGRESQL IS MISSING: THE TESTS OF THE STORE ON POSTGRESQL WERE SKIPPED !!!");
        return None;
    };
    // A folder of the PATH can have links to some of the programs.
    let initdb = folder.join("initdb").canonicalize().unwrap();
    initdb.parent().map(Path::to_owned)
}

/// The user that runs PostgreSQL. PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

/// Returns an unprivileged user if this process runs as root, and None otherwise.
fn unprivileged_user(folder: &Path) -> Option<User> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata(folder).unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| users.lines().find(|line| line.starts_with(&format!("{name}:")));
    let user = find("postgres").or_else(|| find("nobody")).expect("no user postgres or nobody, and root can't run it");
    let fields: Vec<&str> = user.split(':').collect();
    Some(User { uid: fields[2].parse().unwrap(), gid: fields[3].parse().unwrap() })
}

/// A PostgreSQL server.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    user: Option<User>,
    port: u16,
    /// Ends PostgreSQL when its standard input is closed. The value is None until the server starts.
    keeper: Option<Child>,
}

/// The port that names the unix socket of a server without TCP.
const DEFAULT_PORT: u16 = 5432;

/// Name under which a standby connects to its primary.
const STANDBY: &str = "standby";

/// Settings that make the tests fast. A test about a crash of the database overrides `fsync`.
const SETTINGS: [&str; 6] = [
    "fsync=off",
    "max_connections=500",
    "shared_buffers=64MB",
    "listen_addresses=",
    "log_min_messages=fatal",
    "max_prepared_transactions=0",
];

impl Postgres {
    /// Starts a new PostgreSQL server with additional settings, such as `fsync=on`.
    pub fn start(programs: PathBuf, settings: &[&str]) -> Self {
        Self::initialize(programs, DEFAULT_PORT, settings).run()
    }

    /// Starts a new PostgreSQL server that also listens on a free port of 127.0.0.1. Each of `files` is the name and the
    /// text of a file in the data folder, such as `pg_hba.conf` or a private key, that only PostgreSQL can read.
    pub fn start_on_tcp(programs: PathBuf, settings: &[&str], files: &[(&str, &str)]) -> Self {
        let reserved = reserve_port();
        let port = reserved.local_addr().unwrap().port();
        let created = Self::initialize(programs, port, &[settings, &["listen_addresses=127.0.0.1"]].concat());
        files.iter().for_each(|(name, text)| created.write_file(name, text));
        let server = created.run();
        drop(reserved);
        server
    }

    /// Creates the folder of a server.
    fn initialize(programs: PathBuf, port: u16, settings: &[&str]) -> Self {
        let created = Self::in_new_folder(programs, port);
        let data = created.data();
        let mut initdb = created.command("initdb");
        initdb.arg("-D").arg(&data).args(["-A", "trust", "-U", "runhub", "--no-sync", "--locale=C", "-E", "UTF8"]);
        let output = initdb.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let port_setting = format!("port={port}");
        write_settings(&data, created.folder(), &[settings, &[&port_setting]].concat());
        created
    }

    /// Starts a standby, which copies this server and then follows its commits.
    pub fn start_standby(&self) -> Self {
        let created = Self::in_new_folder(self.programs.clone(), DEFAULT_PORT);
        let data = created.data();
        let primary = format!("host={} user=runhub application_name={STANDBY}", self.folder().display());
        let mut copying = created.command("pg_basebackup");
        copying.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-d", &primary, "-D"]).arg(&data);
        let output = copying.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&output.stderr));
        write_settings(&data, created.folder(), &[]);
        created.run()
    }

    /// Creates a folder for a server, which does not run yet.
    fn in_new_folder(programs: PathBuf, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = unprivileged_user(folder.path());
        give_to(user, folder.path());
        Self { folder, programs, user, port, keeper: None }
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Starts the server, and waits until it is ready.
    fn run(mut self) -> Self {
        self.keeper = Some(start_server(&self.programs, self.user, self.folder.path()));
        self.wait_until_ready();
        self
    }

    /// Creates or replaces a file in the data folder.
    fn write_file(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        give_to(self.user, &path);
    }

    /// Lets each commit wait until the standby has the commit on disk.
    pub fn wait_for_standby_in_commits(&self) {
        self.run_sql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'"));
        self.run_sql("postgres", "SELECT pg_reload_conf()");
        let is_synchronous = "SELECT 1 / COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        self.wait_until_works(is_synchronous);
    }

    /// Returns whether the server answers.
    pub fn is_running(&self) -> bool {
        self.try_run_sql("postgres", "SELECT 1").is_ok()
    }

    /// Turns a standby into a primary.
    pub fn promote(&self) {
        self.control(&["promote"]);
    }

    fn wait_until_ready(&self) {
        self.wait_until_works("SELECT 1");
    }

    /// Repeats a statement until it succeeds.
    fn wait_until_works(&self, sql: &str) {
        let begun = Instant::now();
        while self.try_run_sql("postgres", sql).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "PostgreSQL is not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the log of the server.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Returns the folder of the unix socket and of the data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the port, which also names the unix socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the folder with the programs of PostgreSQL.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Returns a command that runs a program of PostgreSQL as the user of the server.
    pub fn command(&self, program: &str) -> Command {
        command(&self.programs.join(program), self.user)
    }

    /// Stops the server as a crash would. The next start recovers from the write-ahead log.
    pub fn crash(&self) {
        self.control(&["stop", "-m", "immediate"]);
    }

    /// Starts the server after `crash`, and waits until it is ready.
    pub fn start_again(&self) {
        self.control(&["start"]);
        self.wait_until_ready();
    }

    /// Runs pg_ctl. Fails unless it succeeds.
    fn control(&self, args: &[&str]) {
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(self.data()).args(args);
        command.args(["-w", "-l"]).arg(self.folder().join("log")).stdin(Stdio::null()).stdout(Stdio::null());
        assert!(command.status().unwrap().success(), "pg_ctl {args:?}: {}", self.log());
    }

    /// Creates an empty database and returns its URL.
    pub fn create_database(&self) -> String {
        self.url(&self.create_named_database())
    }

    /// Creates an empty database and returns its name.
    pub fn create_named_database(&self) -> String {
        static CREATED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", CREATED.fetch_add(1, Ordering::Relaxed));
        self.run_sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Returns the URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://runhub@/{database}?host={}&port={}", self.folder.path().display(), self.port)
    }

    /// Runs a statement in a database.
    pub fn run_sql(&self, database: &str, sql: &str) {
        self.try_run_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn try_run_sql(&self, database: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
        run_sql(&self.url(database), sql)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(keeper) = self.keeper.as_mut() else { return };
        drop(keeper.stdin.take());
        let _ = keeper.wait();
    }
}

/// Runs a statement in the database with a URL.
pub fn run_sql(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    on_own_runtime(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let result = client.batch_execute(sql).await;
        drop(client);
        let _ = connection.await;
        result
    })
}

/// Rows with each value as text, or None for NULL.
pub type TextRows = Vec<Vec<Option<String>>>;

/// Runs `begin` and then queries on one connection to the database with a URL. Returns the rows of each query, with each
/// value as text, or None for NULL.
pub fn query(url: &str, begin: &str, queries: &[&str]) -> Vec<TextRows> {
    on_own_runtime(async {
        let begun = Instant::now();
        loop {
            match try_query(url, begin, queries).await {
                Ok(results) => return results,
                // The database can be away for the time of a fault.
                Err(error) if begun.elapsed() > DATABASE_AWAY => panic!("{queries:?}: {error:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
}

/// Maximum time for which a test waits for the database.
const DATABASE_AWAY: Duration = Duration::from_secs(20);

async fn try_query(url: &str, begin: &str, queries: &[&str]) -> Result<Vec<TextRows>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(begin).await?;
    let mut results = Vec::new();
    for sql in queries {
        let messages = client.simple_query(sql).await?;
        results.push(messages.into_iter().filter_map(read_row).collect());
    }
    drop(client);
    let _ = connection.await;
    Ok(results)
}

fn read_row(message: SimpleQueryMessage) -> Option<Vec<Option<String>>> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
}

/// Runs a future on a runtime of its own, because the caller can be a thread of another runtime.
fn on_own_runtime<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// Returns a socket that reserves a free port of 127.0.0.1 while PostgreSQL starts. The system gives the port to no other
/// program, and PostgreSQL can nevertheless listen on the port, because both sockets allow reuse.
fn reserve_port() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket
}

/// Makes a user the owner of a file or a folder.
fn give_to(user: Option<User>, path: &Path) {
    if let Some(User { uid, gid }) = user {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn command(program: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Adds the settings to the file that each start reads.
fn write_settings(data: &Path, folder: &Path, settings: &[&str]) {
    let mut file = OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
    writeln!(file, "unix_socket_directories = '{}'", folder.display()).unwrap();
    for setting in SETTINGS.iter().chain(settings) {
        let (name, value) = setting.split_once('=').unwrap();
        writeln!(file, "{name} = '{value}'").unwrap();
    }
}

/// Starts the server below a shell that ends the server when the standard input of the shell is closed. The system closes
/// the input when this process ends.
fn start_server(programs: &Path, user: Option<User>, folder: &Path) -> Child {
    let folder = folder.display();
    let programs = programs.display();
    let script = format!(
        "{programs}/postgres -D {folder}/data >{folder}/log 2>&1 </dev/null &
        cat >/dev/null; {programs}/pg_ctl -D {folder}/data stop -m immediate >/dev/null 2>&1; rm -rf {folder}"
    );
    let mut shell = command("/bin/sh".as_ref(), user);
    shell.args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap()
}

/// Returns the server that all tests of this process share, or None if PostgreSQL is not installed.
///
/// # Panics
/// Panics without PostgreSQL if the variable `CI` is set, because CI must skip no test.
pub fn shared() -> Option<&'static Postgres> {
    static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
    SHARED.get_or_init(|| Some(Postgres::start(find_programs()?, &[]))).as_ref()
}
