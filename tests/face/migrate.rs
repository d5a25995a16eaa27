//! The tables of a PostgreSQL database: who creates and migrates them, and which databases the server refuses.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use runhub_client::v1::*;
use tokio::net::TcpSocket;

use crate::support::binary::{Binary, refuse, runhub, serve_store};
use crate::support::calls::*;
use crate::support::database::{TestDatabase, shared_postgres};
use crate::support::until;

/// The version of the schema that this version of Runhub creates.
const VERSION: &str = "10";

/// Undoes the newest migration. A new migration needs other statements here.
const UNDO_NEWEST: &str =
    "ALTER TABLE counters ADD COLUMN is_open BIGINT NOT NULL DEFAULT 0; UPDATE counters SET schema_version = 9";

/// Changes the database as a version of Runhub does that has one more migration.
const MIGRATE_TO_NEWER: &str = "UPDATE counters SET schema_version = 11";

/// Returns the URL of an empty database.
fn new_url() -> String {
    shared_postgres().create_database()
}

/// Returns the version of the schema of a database, or None if the database has no tables.
fn schema_version(url: &str) -> Option<String> {
    let database = TestDatabase::Postgres(url.to_owned());
    if database.tables().is_empty() {
        return None;
    }
    database.query("SELECT schema_version FROM counters")[0][0].clone()
}

fn execute(url: &str, sql: &str) {
    TestDatabase::Postgres(url.to_owned()).execute(sql);
}

fn migrate(url: &str) -> Command {
    runhub(&["migrate", "--store", url])
}

/// Runs a command to its end. Returns its exit code and all that it prints.
fn run_to_end(mut command: Command) -> (Option<i32>, String) {
    shown(&command.output().unwrap())
}

fn shown(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    (output.status.code(), text)
}

/// Runs `runhub serve`, which must refuse the database, with and without --no-migrate.
fn refuse_url(url: &str) -> [String; 2] {
    [&[][..], &["--no-migrate"]].map(|args| refuse(serve_store(url, args)))
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_migration_needs_the_tables_of_runhub_migrate() {
    let url = new_url();
    let error = refuse(serve_store(&url, &["--no-migrate"]));
    assert!(error.contains("run `runhub migrate` first"), "{error}");
    assert_eq!(schema_version(&url), None, "the refused server has changed nothing");

    let (code, text) = run_to_end(migrate(&url));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("created the tables in ") && text.contains(&format!("schema version {VERSION}")),
        "{text}"
    );
    let (code, text) = run_to_end(migrate(&url));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("has the schema version {VERSION} already")), "{text}");

    let server = Binary::spawn(serve_store(&url, &["--no-migrate", "--log", "warn"]));
    new_run(&server.connect().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_database_is_migrated_with_its_rows() {
    for is_migrated_by_server in [false, true] {
        let url = new_url();
        let run = {
            let server = Binary::spawn(serve_store(&url, &["--log", "warn"]));
            new_run(&server.connect().await).await
        };
        execute(&url, UNDO_NEWEST);
        assert!(refuse(serve_store(&url, &["--no-migrate"])).contains("run `runhub migrate` first"));
        if !is_migrated_by_server {
            let (code, text) = run_to_end(migrate(&url));
            assert_eq!(code, Some(0), "{text}");
            assert!(text.contains(&format!("from schema version 9 to {VERSION}")), "{text}");
        }
        let server = Binary::spawn(serve_store(&url, &["--log", "warn"]));
        assert_eq!(schema_version(&url).as_deref(), Some(VERSION));
        let found = server.connect().await.get_run(GetRunRequest { run_id: run.id.clone() }).await.unwrap();
        assert_eq!(found.run.unwrap().id, run.id);
    }
}

#[test]
fn newer_database_is_refused_without_a_change() {
    let url = new_url();
    assert_eq!(run_to_end(migrate(&url)).0, Some(0));
    execute(&url, MIGRATE_TO_NEWER);
    for error in refuse_url(&url) {
        assert!(error.contains("was migrated by a newer runhub: upgrade this runhub"), "{error}");
    }
    let (code, error) = run_to_end(migrate(&url));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("was migrated by a newer runhub: upgrade this runhub"), "{error}");
    assert_eq!(schema_version(&url).as_deref(), Some("11"));
}

/// A newer version migrates the database after `runhub migrate` has read the version and before it gets the lock.
#[tokio::test(flavor = "multi_thread")]
async fn migration_that_waits_for_a_newer_one_changes_nothing() {
    let url = new_url();
    assert_eq!(run_to_end(migrate(&url)).0, Some(0));
    execute(&url, UNDO_NEWEST);
    let (newer, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let lock = "SET search_path = \"default\"; BEGIN; SELECT * FROM counters FOR UPDATE";
    newer.batch_execute(lock).await.unwrap();
    let older = migrate(&url).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(async || waits_for_lock(&url)).await;
    newer.batch_execute(MIGRATE_TO_NEWER).await.unwrap();
    newer.batch_execute("COMMIT").await.unwrap();
    drop(newer);
    connection.await.unwrap().unwrap();
    let (code, error) = shown(&older.wait_with_output().unwrap());
    assert_eq!(schema_version(&url).as_deref(), Some("11"));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("was migrated by a newer runhub: upgrade this runhub"), "{error}");
}

/// Returns whether a session of Runhub waits for a lock.
fn waits_for_lock(url: &str) -> bool {
    let sql = "SELECT 1 FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'runhub' AND wait_event_type = 'Lock'";
    !TestDatabase::Postgres(url.to_owned()).query(sql).is_empty()
}

/// The server ends with the next write of a client, or within seconds without one.
#[tokio::test(flavor = "multi_thread")]
async fn running_server_ends_when_a_newer_version_migrates_the_database() {
    for is_idle in [false, true] {
        let url = new_url();
        let folder = tempfile::tempdir().unwrap();
        let messages = folder.path().join("messages");
        let mut command = serve_store(&url, &["--log", "warn"]);
        command.stderr(fs::File::create(&messages).unwrap());
        let server = Binary::spawn(command);
        let client = server.connect().await;
        let run = new_run(&client).await;
        execute(&url, MIGRATE_TO_NEWER);
        if !is_idle {
            let request = AppendEventsRequest { run_id: run.id, events: vec![event("late")], ..unset() };
            assert!(client.append_events(request).await.is_err(), "nothing more is acknowledged");
        }
        let message = "newer runhub has migrated the database";
        until(async || fs::read_to_string(&messages).unwrap().contains(message)).await;
        assert_eq!(server.exit_code().await, Some(1));
    }
}

/// Servers that start together all try to create the tables.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_together_on_an_empty_database_come_up() {
    const SERVERS: usize = 3;
    for _ in 0..3 {
        let url = new_url();
        let starting = (0..SERVERS).map(|_| {
            let url = url.clone();
            tokio::task::spawn_blocking(move || Binary::spawn(serve_store(&url, &["--log", "warn"])))
        });
        let starting: Vec<_> = starting.collect();
        let mut servers = Vec::new();
        for server in starting {
            servers.push(server.await.unwrap());
        }
        for server in &servers {
            new_run(&server.connect().await).await;
        }
        let client = servers[0].connect().await;
        assert_eq!(client.list_servers(ListServersRequest {}).await.unwrap().servers.len(), SERVERS);
        assert_eq!(client.list_runs(ListRunsRequest::default()).await.unwrap().runs.len(), SERVERS);
    }
}

/// The longest time in which a command must report that it can't reach the database.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);

/// Waits until a process ends, and returns all that it prints. Kills the process and fails after `REFUSED_WITHIN`.
async fn end_in_time(mut process: Child) -> String {
    let begun = Instant::now();
    while process.try_wait().unwrap().is_none() {
        if begun.elapsed() > REFUSED_WITHIN {
            process.kill().unwrap();
            panic!("the command still runs after {REFUSED_WITHIN:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (code, text) = shown(&process.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{text}");
    text
}

/// Runs `runhub serve` and `runhub migrate` on a database that can't be reached, and returns what they print.
async fn fail_to_reach(port: u16) -> Vec<String> {
    let url = format!("postgres://ann:secret@127.0.0.1:{port}/work");
    let commands = [serve_store(&url, &[]), migrate(&url)];
    let processes = commands.map(|mut command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut texts = Vec::new();
    for process in processes {
        let text = end_in_time(process).await;
        assert!(text.contains(&format!("can't open the database postgres://ann@127.0.0.1:{port}/work")), "{text}");
        assert!(!text.contains("secret"), "{text}");
        texts.push(text);
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_database_is_reported_in_time() {
    // No program listens on the port, and the system gives the port to no other program.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    for text in fail_to_reach(closed.local_addr().unwrap().port()).await {
        assert!(text.contains("Connection refused"), "{text}");
    }
    // A stopped database accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for text in fail_to_reach(silent.local_addr().unwrap().port()).await {
        assert!(text.contains("the database did not answer within"), "{text}");
    }
}

/// The database of the first host is stopped, and another host has taken over.
#[tokio::test(flavor = "multi_thread")]
async fn silent_host_does_not_hide_the_next_host() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = shared_postgres().create_named_database();
    let (own, port) = (shared_postgres().folder().display(), shared_postgres().port());
    let silent = silent.local_addr().unwrap().port();
    // A folder with a unix socket is a host, too.
    let own = own.to_string().replace('/', "%2F");
    let url = format!("postgres://runhub@127.0.0.1:{silent},{own}:{port}/{name}?connect_timeout=1");
    let server = Binary::spawn(serve_store(&url, &["--log", "warn"]));
    new_run(&server.connect().await).await;
}

#[test]
fn invalid_store_is_refused_without_its_password() {
    for (url, cause) in [
        ("mysql://ann:secret@127.0.0.1/work", "it must begin with postgres://. Pass a database file with --db"),
        ("runhub.db?password=secret", "it must begin with postgres://. Pass a database file with --db"),
        ("postgres://ann:secret@127.0.0.1/work?sslmode=allow", "sslmode=allow is not known"),
        ("postgres://ann:secret@127.0.0.1:port/work", "invalid value for option `port`"),
        ("postgres://ann:is@secret@127.0.0.1/work", "misplaced ? or @"),
    ] {
        let mut from_variable = runhub(&["serve", "--listen", "127.0.0.1:0"]);
        from_variable.env("RUNHUB_STORE", url);
        for command in [serve_store(url, &[]), migrate(url), from_variable] {
            let (code, error) = run_to_end(command);
            assert_eq!(code, Some(2), "{error}");
            assert!(error.contains("--store") && error.contains(cause), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

#[test]
fn store_and_database_file_are_not_accepted_together() {
    let url = "postgres://ann:secret@127.0.0.1/work";
    let both_options = serve_store(url, &["--db", "runhub.db"]);
    let mut option_and_variable = runhub(&["serve", "--db", "runhub.db"]);
    option_and_variable.env("RUNHUB_STORE", url);
    for command in [both_options, option_and_variable] {
        let (code, error) = run_to_end(command);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains("cannot be used with") && error.contains("--store <URL>"), "{error}");
        assert!(error.contains("--db <FILE>"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
