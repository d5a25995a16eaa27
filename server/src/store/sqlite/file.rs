//! This module opens and locks the database file, so that at most one server uses a database, under any name of the
//! file.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

use super::OpenError;
use super::header::Header;
use super::wal::{LARGEST_PAGE, read_u32};

/// Access mode of the files that the server creates. Only the owner may read the files, because the database contains
/// lease tokens. SQLite creates the other files of the database with the access mode of the database file.
const MODE: u32 = 0o600;

/// First bytes of the journal of an SQLite transaction that has not ended.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Offset, in a journal, of the number of pages of the database before the transaction, a big-endian integer of 4
/// bytes.
const PAGES_BEFORE_AT: usize = 16;

/// Identifies a file of this machine, whatever the names of the file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Returns the id of the file at `path`. Does not ask for the times of the file: since version 6.13, Linux gives a
    /// file a new time at the next write after each such question. The sync of each commit would then store the time
    /// too, and would take about a quarter longer.
    #[cfg(target_os = "linux")]
    fn at(path: &Path) -> io::Result<Self> {
        match statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
            Ok(found) => Ok(Self { device: makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino }),
            // Linux before version 4.11 does not have `statx`. Other errors are the same as those of `metadata`.
            Err(_) => std::fs::metadata(path).map(|metadata| Self::of(&metadata)),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn at(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    /// Fails if `path` does not lead to the file with this id.
    fn check_at(self, path: &Path) -> io::Result<()> {
        if Self::at(path)? == self { Ok(()) } else { Err(io::Error::other("the path leads to another file")) }
    }
}

/// A locked database file. The lock is on the file itself, because a file can have several names.
///
/// The value must be dropped after the last SQLite connection of this process: when a process closes any handle of a
/// file, the operating system releases all locks that SQLite holds on the file.
#[derive(Debug)]
pub struct DatabaseFile {
    /// Absolute path without symbolic links. All connections must use this path, because SQLite derives the names of
    /// the other files of the database from the path.
    path: PathBuf,
    id: FileId,
    file: File,
    /// If the file did not exist before, the value is true.
    was_created: bool,
}

impl DatabaseFile {
    /// Opens and locks the database file, and creates the file if it does not exist. Changes nothing in an existing
    /// file. Fails with `InUse` if another process has locked the file, and if the file can't be opened, is not a
    /// regular file, or has several hard links.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let unreadable = |cause: io::Error| OpenError::unreadable(path, cause);
        let was_created = !path.exists();
        let file = open_or_create(path).map_err(unreadable)?;
        lock(&file, path)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(OpenError::unreadable(path, "it is not a regular file"));
        }
        // With two hard links, two servers could use two write-ahead logs for one database.
        if metadata.nlink() > 1 {
            return Err(OpenError::SeveralLinks { path: path.to_owned(), links: metadata.nlink() });
        }
        // Resolve the path after the file was created. Otherwise, a symbolic link to a missing file has no target.
        let path = path.canonicalize().map_err(unreadable)?;
        let database = Self { path, id: FileId::of(&metadata), file, was_created };
        database.check_in_place().map_err(unreadable)?;
        Ok(database)
    }

    /// Removes the file if `open` has created it and it is still empty. Call this function if the database is refused.
    pub fn remove_if_created(&self) {
        let is_empty = self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if self.was_created && is_empty && self.check_in_place().is_ok() {
            // Ignore the error, because an empty file does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Returns the absolute path without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the header of the file, or None if the file is empty.
    pub fn read_header(&self) -> Result<Option<Header>, OpenError> {
        Header::read(&self.file, &self.path)
    }

    /// Returns whether the creation of the database was interrupted, for example by a crash of the machine.
    /// SQLite then undoes the interrupted transaction when it opens the file for writing. Fails if the file has several
    /// pages, because the journal then belongs to another file, and SQLite would remove the pages.
    pub fn is_unfinished(&self) -> Result<bool, OpenError> {
        let journal = with_ending(&self.path, "-journal");
        let length = self.file.metadata().map_err(|cause| OpenError::unreadable(&self.path, cause))?.len();
        match is_journal_of_creation(&journal) {
            true if length > LARGEST_PAGE as u64 => Err(OpenError::OtherLog { db: self.path.clone(), log: journal }),
            is_unfinished => Ok(is_unfinished),
        }
    }

    /// Stores one of the marks `OPEN_ID`, `CLOSED_ID` and `UNMARKED_ID` in the file, without SQLite.
    pub fn write_mark(&self, mark: i32) -> io::Result<()> {
        Header::write_application_id(&self.file, mark)
    }

    /// Fails if the path does not lead to this file any more, for example because the file was moved or replaced.
    pub fn check_in_place(&self) -> io::Result<()> {
        self.id.check_at(&self.path)
    }
}

/// Returns whether a file is the journal of one of the two transactions in which SQLite creates a database. The first
/// one writes the first page, and the second one changes the database to use a write-ahead log. A database of one page
/// has no table.
fn is_journal_of_creation(journal: &Path) -> bool {
    let mut header = [0; 20];
    let is_read = File::open(journal).and_then(|journal| journal.read_exact_at(&mut header, 0)).is_ok();
    is_read && header.starts_with(&JOURNAL_MAGIC) && read_u32(&header, PAGES_BEFORE_AT) <= 1
}

/// The locked write-ahead log of a database. Because SQLite finds the log by its name, the lock keeps a server from
/// using the log of a database file that was moved away while another server has it open.
#[derive(Debug)]
pub struct WalFile {
    path: PathBuf,
    id: FileId,
    file: File,
}

impl WalFile {
    /// Opens and locks the write-ahead log of a database. Returns None if the log does not exist. Fails with `InUse` if
    /// another process has locked the log.
    pub fn open(database: &DatabaseFile) -> Result<Option<Self>, OpenError> {
        let path = wal_path(database.path());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::unreadable(&path, error)),
        };
        lock(&file, database.path())?;
        let metadata = file.metadata().map_err(|error| OpenError::unreadable(&path, error))?;
        Ok(Some(Self { path, id: FileId::of(&metadata), file }))
    }

    /// Creates an empty log if the log does not exist, and waits until the name of the log is on disk. Otherwise, after
    /// a power loss, the log could seem to be lost.
    pub fn create(database: &DatabaseFile) -> io::Result<()> {
        let path = wal_path(database.path());
        open_or_create(&path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }

    /// Returns the handle for reading the log.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fails if the log was removed, moved or replaced. The next server does not find the commits in the log.
    pub fn check_in_place(&self) -> io::Result<()> {
        self.id.check_at(&self.path).map_err(|cause| io::Error::new(cause.kind(), format!("write-ahead log: {cause}")))
    }
}

/// Returns the path of the write-ahead log of a database.
pub fn wal_path(database: &Path) -> PathBuf {
    with_ending(database, "-wal")
}

/// Returns the path of a file that SQLite keeps beside a database.
pub fn with_ending(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
}

/// Locks a file until the handle is closed. The operating system closes the handle when this process ends, even after a
/// crash. Fails with `InUse` for the database at `path` if another handle holds the lock.
fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(cause)) => Err(OpenError::unreadable(path, cause)),
    }
}

#[cfg(test)]
mod tests;
