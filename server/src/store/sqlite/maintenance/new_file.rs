//! This module creates a file that appears under its name only when the file is complete.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::super::file::with_ending;
use super::MaintenanceError;

/// Endings of the files that SQLite keeps beside a database. SQLite would apply such a file to a new database of the
/// same name.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A file that is being written under a temporary name. Dropping this value removes the file.
pub struct NewFile {
    temporary: NamedTempFile,
    folder: PathBuf,
    target: PathBuf,
}

impl NewFile {
    /// Creates an empty file, with a temporary name in the folder of `target`, that only its owner can read. Fails if
    /// `target` or a file of SQLite for `target` exists, or if the folder does not exist or can't be written.
    pub fn create(target: &Path) -> Result<Self, MaintenanceError> {
        let failed = |cause| MaintenanceError::not_written(target, cause);
        let name = target.file_name().ok_or_else(|| failed(ErrorKind::InvalidFilename.into()))?;
        let folder = match target.parent() {
            Some(parent) if parent != Path::new("") => parent.canonicalize().map_err(failed)?,
            _ => Path::new(".").canonicalize().map_err(failed)?,
        };
        let target = folder.join(name);
        check_is_free(&target)?;
        let mut prefix = name.to_owned();
        prefix.push(".");
        let temporary = Builder::new().prefix(&prefix).suffix(".partial").tempfile_in(&folder).map_err(failed)?;
        Ok(Self { temporary, folder, target })
    }

    /// Returns the temporary path.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Makes the content durable, gives the file its name, and returns the size of the file in bytes. Fails if a file
    /// of this name has appeared, or if the disk can't be written.
    pub fn publish(self) -> Result<u64, MaintenanceError> {
        let Self { temporary, folder, target } = self;
        let failed = |cause: std::io::Error| MaintenanceError::not_written(&target, cause);
        temporary.as_file().sync_all().map_err(failed)?;
        let bytes = temporary.as_file().metadata().map_err(failed)?.len();
        check_is_free(&target)?;
        temporary.persist_noclobber(&target).map_err(|error| match error.error.kind() {
            ErrorKind::AlreadyExists => MaintenanceError::Exists(target.clone()),
            _ => failed(error.error),
        })?;
        // Without this call, a power loss could undo the renaming.
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(bytes)
    }
}

/// Fails if a file with the name `target`, or a file that SQLite would apply to `target`, exists.
fn check_is_free(target: &Path) -> Result<(), MaintenanceError> {
    let companions = COMPANIONS.iter().map(|ending| with_ending(target, ending));
    for path in std::iter::once(target.to_owned()).chain(companions) {
        // Not `exists`, which is false for a symbolic link to a missing file.
        if path.symlink_metadata().is_ok() {
            return Err(MaintenanceError::Exists(path));
        }
    }
    Ok(())
}
