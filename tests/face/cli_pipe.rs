//! Commands and servers whose output nobody reads any more, and `runhub watch` while the server is away.

use std::io::{BufRead, BufReader, Lines, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};

use runhub_client::Client;
use runhub_client::v1::*;
use tokio::net::UnixListener;

use crate::support::binary::{Binary, runhub, serve_in, signal};
use crate::support::calls::*;
use crate::support::{TestServer, soon, until};

const LOST: &str = "the connection to the server is lost: trying to connect again";
const BACK: &str = "connected to the server again";

/// Returns the write end of a pipe whose reader has ended.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A process that is killed at the end of the test, also if the test fails.
struct Process(Child);

impl Process {
    /// Waits until the process has ended, and returns its exit status.
    async fn end(&mut self) -> ExitStatus {
        until(async || self.0.try_wait().unwrap().is_some()).await;
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already. Then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `runhub watch` whose output the test reads.
struct Watch {
    process: Process,
    events: Lines<BufReader<ChildStdout>>,
    notices: Lines<BufReader<ChildStderr>>,
}

impl Watch {
    fn start(run_id: &str, server: &str, args: &[&str]) -> Self {
        let args = [&["watch", run_id, "--server", server], args].concat();
        let mut child = runhub(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        let notices = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { process: Process(child), events, notices }
    }

    fn next_event(&mut self) -> Option<String> {
        self.events.next().map(Result::unwrap)
    }

    fn next_notice(&mut self) -> Option<String> {
        self.notices.next().map(Result::unwrap)
    }

    /// Closes the pipe from which the test reads the events, as `head` does after its last line. Returns the exit
    /// status of the command and the lines that the command has printed to standard error.
    async fn close_pipe(self) -> (ExitStatus, Vec<String>) {
        let Self { mut process, events, notices } = self;
        drop(events);
        let status = process.end().await;
        (status, notices.map(Result::unwrap).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_ends_when_its_pipe_closes_while_events_arrive() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    append(&server.client, &run.id, vec![event("a"), event("b")]).await;
    for args in [&[][..], &["--json"]] {
        let mut watch = Watch::start(&run.id, &server.url, args);
        assert!(watch.next_event().unwrap().contains("run_created"));
        assert!(watch.next_event().is_some());
        let (client, run_id) = (server.client.clone(), run.id.clone());
        let appending = tokio::spawn(async move {
            loop {
                append(&client, &run_id, vec![event("more")]).await;
            }
        });
        let (status, notices) = watch.close_pipe().await;
        appending.abort();
        assert!(status.success() && notices.is_empty(), "{args:?}: {status} {notices:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_ends_when_its_pipe_closes_while_no_event_arrives() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    for args in [&[][..], &["--json"]] {
        let mut watch = Watch::start(&run.id, &server.url, args);
        assert!(watch.next_event().unwrap().contains("run_created"));
        server.until_reader_waits().await;
        let (status, notices) = watch.close_pipe().await;
        assert!(status.success() && notices.is_empty(), "{args:?}: {status} {notices:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_ends_when_its_pipe_closes_while_the_server_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("sock");
    let address = format!("unix:{}", socket.display());
    let server = Binary::start_in_on(&address, folder.path(), &[]);
    let run = new_run(&server.connect().await).await;
    let mut watch = Watch::start(&run.id, &address, &[]);
    assert!(watch.next_event().is_some());
    server.kill();
    assert_eq!(watch.next_notice().unwrap(), LOST);
    let (status, notices) = watch.close_pipe().await;
    assert!(status.success() && notices.is_empty(), "{status} {notices:?}");
}

/// Accepts and closes `count` connections at the address of the socket.
async fn refuse_connections(socket: &Path, count: usize) {
    // A server that has shut down has removed the file.
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    for _ in 0..count {
        drop(soon(listener.accept()).await.unwrap());
    }
}

/// However often `watch` tries to connect, it prints one notice when the server goes away and one when the server is
/// back. The standard output has only events.
#[tokio::test(flavor = "multi_thread")]
async fn watch_reports_on_standard_error_that_the_server_is_away_and_back() {
    for args in [&[][..], &["--json"]] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sock");
        let address = format!("unix:{}", socket.display());
        let mut server = Binary::start_in_on(&address, folder.path(), &[]);
        let run = new_run(&server.connect().await).await;
        let mut watch = Watch::start(&run.id, &address, args);
        assert!(watch.next_event().unwrap().contains("run_created"));
        for name in ["KILL", "TERM"] {
            signal(name, server.pid());
            server.wait().await;
            assert_eq!(watch.next_notice().unwrap(), LOST, "{name}");
            refuse_connections(&socket, 3).await;
            server = Binary::start_in_on(&address, folder.path(), &[]);
            append(&server.connect().await, &run.id, vec![event(name)]).await;
            assert!(watch.next_event().unwrap().contains(name));
            assert_eq!(watch.next_notice().unwrap(), BACK, "{name}");
        }
        set_status(&server.connect().await, &run.id, RunStatus::Completed).await;
        assert!(watch.next_event().unwrap().contains("run_updated"));
        assert_eq!((watch.next_event(), watch.next_notice()), (None, None));
        assert!(watch.process.end().await.success());
    }
}

/// Runs a command whose standard output nobody reads. Returns the exit status and the standard error.
async fn run_unread(args: &[&str], server: &str) -> (ExitStatus, String) {
    let args = if server.is_empty() { args.to_vec() } else { [args, &["--server", server]].concat() };
    let mut process = Process(runhub(&args).stdout(closed_pipe()).stderr(Stdio::piped()).spawn().unwrap());
    let status = process.end().await;
    let mut errors = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    (status, errors)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_succeeds_silently_if_its_output_is_not_read() {
    let server = TestServer::start().await;
    let run = new_run(&server.client).await;
    let task = add_task(&server.client, &run.id, draft("t")).await;
    let (run, task) = (run.id.as_str(), task.id.as_str());
    let approval = request_approval(&server.client, run, "digest").await.id;
    let commands: [&[&str]; 19] = [
        &["runs"],
        &["runs", "--json"],
        &["show", run],
        &["show", run, "--json"],
        &["tasks", run],
        &["tasks", run, "--json"],
        &["why", task],
        &["why", task, "--json"],
        &["approvals"],
        &["approvals", "--json"],
        &["watch", run],
        &["watch", run, "--json"],
        &["watch", "--all"],
        &["watch", "--all", "--no-follow"],
        &["approve", &approval],
        &["pause", run],
        &["resume", run, "--json"],
        &["cancel", run],
        &["delete", run],
    ];
    for command in commands {
        let (status, errors) = run_unread(command, &server.url).await;
        assert!(status.success() && errors.is_empty(), "{command:?}: {status} {errors}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (ledger, db) = (folder.path().join("issues.jsonl"), folder.path().join("runhub.db"));
    std::fs::write(&ledger, r#"{"id": "a", "title": "A", "status": "open", "issue_type": "task"}"#).unwrap();
    let import = ["import", "beads", ledger.to_str().unwrap(), "--db", db.to_str().unwrap()];
    for command in [&import[..], &["--help"], &["--version"], &["help", "watch"]] {
        let (status, errors) = run_unread(command, "").await;
        assert!(status.success() && errors.is_empty(), "{command:?}: {status} {errors}");
    }
}

/// Starts a server whose output nobody reads, and returns the process and a client.
async fn serve_unread(folder: &Path, stdout: Stdio, stderr: Stdio) -> (Process, Client) {
    let address = format!("unix:{}/sock", folder.display());
    let mut command = serve_in(&address, folder);
    let child = Process(command.args(["--log", "debug"]).stdout(stdout).stderr(stderr).spawn().unwrap());
    until(async || Client::connect(&address).await.is_ok()).await;
    (child, Client::connect(&address).await.unwrap().without_retry())
}

#[tokio::test(flavor = "multi_thread")]
async fn server_serves_if_its_standard_output_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, client) = serve_unread(folder.path(), closed_pipe(), Stdio::null()).await;
    new_run(&client).await;
}

/// The server writes many lines to its log, in all its threads.
#[tokio::test(flavor = "multi_thread")]
async fn server_serves_if_its_log_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, client) = serve_unread(folder.path(), Stdio::null(), closed_pipe()).await;
    let run = new_run(&client).await;
    add_task(&client, &run.id, draft("t")).await;
    let claim = claim_for(&client, &run.id, "agent", 1).await.unwrap();
    until_logged(&client, &run.id, "lease_expired", 1).await;
    assert!(claim_for(&client, &run.id, "next", 60).await.unwrap().attempt_number > claim.attempt_number);
}
