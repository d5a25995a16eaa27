//! The real binary, as a user starts it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use runhub_client::Client;

use super::database::TestDatabase;

/// Returns a `runhub` command that sees none of the caller's RUNHUB_ variables.
pub fn runhub(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runhub"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RUNHUB_")) {
        command.env_remove(name);
    }
    command
}

/// Returns the command that starts a server on a database.
pub fn serve(listen: &str, db: &Path) -> Command {
    runhub(&["serve", "--listen", listen, "--db", db.to_str().unwrap()])
}

/// Returns the command that starts a server on the database in a folder, which is a PostgreSQL database if the tests use
/// PostgreSQL.
pub fn serve_in(listen: &str, folder: &Path) -> Command {
    let mut command = runhub(&["serve", "--listen", listen]);
    command.args(location_in(folder));
    command
}

/// Returns the option that names the database in a folder, and its value.
fn location_in(folder: &Path) -> [String; 2] {
    match TestDatabase::in_folder(folder) {
        TestDatabase::File(file) => ["--db".to_owned(), file.to_str().unwrap().to_owned()],
        TestDatabase::Postgres(url) => ["--store".to_owned(), url],
    }
}

/// Runs a command to its end and returns its output.
pub fn run(args: &[&str]) -> Output {
    runhub(args).output().unwrap()
}

/// Runs a command and returns what it printed. Fails unless the command succeeds.
pub fn stdout(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `runhub serve`, which must refuse to start, and returns the error message. Fails if the server starts.
pub fn refuse_to_start(listen: &str, db: &Path) -> String {
    refuse(serve(listen, db))
}

/// Returns the command that starts a server on a PostgreSQL database.
pub fn serve_store(url: &str, args: &[&str]) -> Command {
    let mut command = runhub(&["serve", "--listen", "127.0.0.1:0", "--store", url]);
    command.args(args);
    command
}

/// Runs a command that starts a server, which must refuse to start, and returns the error message. Fails if the server
/// starts.
pub fn refuse(mut command: Command) -> String {
    command.args(["--log", "off"]).stderr(Stdio::piped());
    let started = format!("{command:?}");
    let Err(server) = Binary::try_spawn(command) else { panic!("{started}: the server started") };
    let refused = server.wait_with_output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{started}");
    String::from_utf8(refused.stderr).unwrap()
}

/// Sends a signal to a process.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A server process that runs until it is killed or told to stop.
pub struct Binary {
    child: Child,
    /// The address it listens on, as it prints it.
    pub address: String,
    /// The first line that it prints.
    pub first_line: String,
}

impl Binary {
    /// Starts `runhub serve` on a database and waits until it listens.
    pub fn start(db: &Path, args: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", db, args)
    }

    /// Starts `runhub serve` on the database in a folder, which is a PostgreSQL database if the tests use PostgreSQL.
    pub fn start_in(folder: &Path, args: &[&str]) -> Self {
        Self::start_in_on("127.0.0.1:0", folder, args)
    }

    /// Starts `runhub serve` at an address, on the database in a folder.
    pub fn start_in_on(listen: &str, folder: &Path, args: &[&str]) -> Self {
        let mut command = serve_in(listen, folder);
        command.args(["--log", "warn"]).args(args);
        Self::spawn(command)
    }

    /// Starts `runhub serve` on a PostgreSQL database.
    pub fn start_on_store(listen: &str, url: &str) -> Self {
        let mut command = runhub(&["serve", "--listen", listen, "--log", "error"]);
        command.args(["--store", url]);
        Self::spawn(command)
    }

    pub fn start_on(listen: &str, db: &Path, args: &[&str]) -> Self {
        let mut command = serve(listen, db);
        command.args(["--log", "warn"]).args(args);
        Self::spawn(command)
    }

    /// Starts `runhub serve` on the database in a folder, with a limit of open files that the server can't raise.
    pub fn start_with_file_limit(folder: &Path, limit: usize) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {limit}; exec \"$0\" serve --listen 127.0.0.1:0 --log warn \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_runhub")]).args(location_in(folder)).stdin(Stdio::null());
        Self::spawn(command)
    }

    /// Starts `runhub serve`, and writes its warnings and errors to a file.
    pub fn start_with_messages(db: &Path, messages: &Path) -> Self {
        let mut command = runhub(&["serve", "--listen", "127.0.0.1:0", "--db", db.to_str().unwrap(), "--log", "warn"]);
        command.stderr(std::fs::File::create(messages).unwrap());
        Self::spawn(command)
    }

    /// Starts a server with a command, and waits until the server listens.
    pub fn spawn(command: Command) -> Self {
        Self::try_spawn(command).unwrap_or_else(|_| panic!("the server did not start"))
    }

    /// Starts a server with a command, and waits until the server listens. Returns the process if it does not print an
    /// address.
    pub fn try_spawn(mut command: Command) -> Result<Self, Child> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        match line.split(" listens on ").nth(1).and_then(|rest| rest.split(',').next()) {
            Some(address) => Ok(Self { child, address: address.to_owned(), first_line: line }),
            None => Err(child),
        }
    }

    pub async fn connect(&self) -> Client {
        Client::connect(&self.address).await.unwrap().without_retry()
    }

    /// Kills the server as a crash would, without a signal that it could handle.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the number of open sockets: connections and the listener.
    pub fn open_sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let targets = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    /// Returns the processor time that the process has used, in clock ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Returns the resident memory.
    pub fn resident_mib(&self) -> u64 {
        self.memory_mib("VmRSS:")
    }

    /// Returns the largest resident memory so far.
    pub fn most_resident_mib(&self) -> u64 {
        self.memory_mib("VmHWM:")
    }

    fn memory_mib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    /// Asks the server to stop.
    pub fn terminate(&self) {
        signal("TERM", self.pid());
    }

    /// Waits until the server has ended, and returns whether it succeeded. Clients of the test go on meanwhile.
    pub async fn wait(self) -> bool {
        self.exit_code().await == Some(0)
    }

    /// Waits until the server has ended, and returns its exit code, or None if a signal ended the server.
    pub async fn exit_code(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap().code()).await.unwrap()
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // The process may have ended already. Then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
