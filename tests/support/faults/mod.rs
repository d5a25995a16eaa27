//! A server with a preloaded library, which sets the server's clock, fills the server's disk, and makes the disk forget
//! what was not synced in a power cut.
//! `faults.c` describes the library.

mod clock;
mod full_disk;
mod power_cut;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

// The binary of the face tests contains this module too, and does not use everything.
#[allow(unused_imports)]
pub use self::clock::KEEP_REQUESTS_FOR;
#[allow(unused_imports)]
pub use self::full_disk::Refusals;
#[allow(unused_imports)]
pub use self::power_cut::{Loss, Survivors, undo};
use super::binary::{self, Binary};

/// Size of `struct control` in `faults.c`: switches of 8 bytes.
const CONTROL_BYTES: u64 = 32;
/// Offset of the switch `ignores_sync`.
const IGNORES_SYNC: u64 = 0;
/// Offset of the switch `clock_offset`.
const CLOCK_OFFSET: u64 = 8;
/// Offset of the switch `fullness`.
const FULLNESS: u64 = 16;
/// Offset of the switch `fails_reads`.
const FAILS_READS: u64 = 24;

/// A folder for a database, and the faults of its disk.
pub struct Faults {
    /// The folder with the database.
    disk: PathBuf,
    /// The folder in which the library keeps its records.
    state: PathBuf,
    control: File,
    /// Seconds by which the server's clock differs from that of the machine.
    clock_offset: i64,
}

impl Faults {
    /// Creates the folders in an empty folder.
    pub fn new(folder: &Path) -> Self {
        // The library compares paths without symbolic links.
        let folder = folder.canonicalize().unwrap();
        let (disk, state) = (folder.join("disk"), folder.join("state"));
        fs::create_dir(&disk).unwrap();
        for folder in ["undo", "removed"] {
            fs::create_dir_all(state.join(folder)).unwrap();
        }
        let control = File::options().create_new(true).write(true).open(state.join("control")).unwrap();
        control.set_len(CONTROL_BYTES).unwrap();
        fs::write(state.join("names"), "").unwrap();
        Self { disk, state, control, clock_offset: 0 }
    }

    pub fn db(&self) -> PathBuf {
        self.disk.join("runhub.db")
    }

    /// Starts a server on the database and waits until it listens.
    pub fn start(&self) -> Binary {
        self.start_with(&[])
    }

    /// Starts a server on another database of the disk.
    pub fn start_on(&self, db: &Path) -> Binary {
        self.spawn(self.command_on(db))
    }

    /// Starts a server with further arguments.
    pub fn start_with(&self, args: &[&str]) -> Binary {
        let mut command = self.command();
        command.args(args);
        self.spawn(command)
    }

    /// Starts a server with a command. If the server does not start, fails with the messages of all servers.
    fn spawn(&self, command: Command) -> Binary {
        Binary::try_spawn(command).unwrap_or_else(|_| panic!("the server did not start: {}", self.read_errors()))
    }

    /// Returns the command that starts a server on the database.
    pub fn command(&self) -> Command {
        self.command_on(&self.db())
    }

    /// Returns the command that starts a server on a database of the disk. The server adds its errors to a file.
    pub fn command_on(&self, db: &Path) -> Command {
        let mut command = binary::serve("127.0.0.1:0", db);
        command.args(["--log", "error"]).stderr(File::options().append(true).create(true).open(self.errors()).unwrap());
        self.preload(&mut command);
        command
    }

    /// Runs `runhub` on the disk with the faults. Fails unless the command succeeds.
    pub fn run(&self, args: &[&str]) {
        let mut command = binary::runhub(args);
        self.preload(&mut command);
        assert!(command.stdout(Stdio::null()).status().unwrap().success(), "{args:?}");
    }

    fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", library());
        command.env("FAULTS_DISK", &self.disk).env("FAULTS_STATE", &self.state);
    }

    fn errors(&self) -> PathBuf {
        self.state.join("errors")
    }

    /// Returns what the servers have written to their logs.
    pub fn read_errors(&self) -> String {
        fs::read_to_string(self.errors()).unwrap()
    }

    /// Fails if a server has reported that commits are lost, although none is.
    pub fn assert_no_reported_loss(&self) {
        let errors = self.read_errors();
        assert!(!errors.contains("commits are lost"), "{errors}");
    }

    /// From now on, a sync of the server does nothing.
    pub fn ignore_syncs(&self) {
        self.set(IGNORES_SYNC, 1);
    }

    /// From now on, every read of a file on the disk fails.
    pub fn fail_reads(&self) {
        self.set(FAILS_READS, 1);
    }

    /// Sets the wall clock of the server forward by a number of seconds, or back if the number is negative. The clock
    /// of servers that are started later has the same difference to the clock of the machine.
    pub fn step_clock(&mut self, seconds: i64) {
        self.clock_offset += seconds;
        self.set(CLOCK_OFFSET, self.clock_offset * 1_000_000_000);
    }

    fn set(&self, switch: u64, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), switch).unwrap();
    }
}

/// Compiles the library once, and returns its path.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let compiled = folder.join(format!("faults-{}.so", std::process::id()));
        let source = super::root().join("tests/support/faults/faults.c");
        let compiler = std::env::var_os("CC").unwrap_or("cc".into());
        let mut command = Command::new(compiler);
        command.args(["-shared", "-fPIC", "-pthread", "-O1", "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-o"]);
        let compiles = command.args([compiled.as_os_str(), OsStr::new(&source)]).status().unwrap().success();
        assert!(compiles, "{command:?} failed");
        // Replace an older library in one step, because another test process may start a server at the same time.
        let path = folder.join("faults.so");
        fs::rename(compiled, &path).unwrap();
        path
    })
}
