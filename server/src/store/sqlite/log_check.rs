//! This module decides whether a write-ahead log belongs to the database file beside the log, and whether commits are
//! lost. SQLite itself applies every log that has the name of the database file, and removes the log of an empty file.

use std::fs::File;
use std::path::Path;

use super::OpenError;
use super::file::wal_path;
use super::header::LogMark;
use super::wal::{self, WalState};

/// Specifies what is known about the newest commits of a database before SQLite opens the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewestCommits {
    /// No loss was found.
    Present,
    /// The log is missing, although no server has closed the database. If no other program has opened the database
    /// since, the newest commits are lost.
    MissingLog,
    /// The log is damaged. The commits behind the damage are lost.
    DamagedLog,
}

/// Looks for lost commits. `log` is the file of the write-ahead log, or None if the file does not exist. Fails with
/// `OtherLog` if the log has commits that do not belong to the database, and if the log can't be read.
pub fn check(database: &Path, mark: LogMark, log: Option<&File>) -> Result<NewestCommits, OpenError> {
    let Some(log) = log else {
        return Ok(if mark == LogMark::Open { NewestCommits::MissingLog } else { NewestCommits::Present });
    };
    let path = wal_path(database);
    match wal::check(log).map_err(|cause| OpenError::unreadable(&path, cause))? {
        WalState::Intact | WalState::Damaged if mark == LogMark::Closed => {
            Err(OpenError::OtherLog { db: database.to_owned(), log: path })
        }
        WalState::Damaged => Ok(NewestCommits::DamagedLog),
        WalState::Empty | WalState::Intact => Ok(NewestCommits::Present),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use rusqlite::Connection;

    use super::*;

    /// Returns a log with one commit.
    fn create_log(folder: &Path) -> File {
        let path = folder.join("other");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; DROP TABLE IF EXISTS rows; CREATE TABLE rows (key)").unwrap();
        File::open(wal_path(&path)).unwrap()
    }

    #[test]
    fn log_with_commits_is_refused_beside_a_closed_or_new_database() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("db");
        let check_log = |mark| check(&database, mark, Some(&create_log(folder.path())));
        assert!(matches!(check_log(LogMark::Closed), Err(OpenError::OtherLog { .. })));
        assert_eq!(check_log(LogMark::Open).unwrap(), NewestCommits::Present);
        assert_eq!(check_log(LogMark::Unknown).unwrap(), NewestCommits::Present);
    }

    #[test]
    fn only_an_open_database_misses_its_log() {
        let database = Path::new("db");
        assert_eq!(check(database, LogMark::Open, None).unwrap(), NewestCommits::MissingLog);
        for mark in [LogMark::Closed, LogMark::Unknown] {
            assert_eq!(check(database, mark, None).unwrap(), NewestCommits::Present);
        }
        // An empty log was copied into the database file before.
        let empty = tempfile::tempfile().unwrap();
        assert_eq!(check(database, LogMark::Open, Some(&empty)).unwrap(), NewestCommits::Present);
        assert_eq!(check(database, LogMark::Closed, Some(&empty)).unwrap(), NewestCommits::Present);
    }

    #[test]
    fn damaged_log_is_found() {
        let mut log = tempfile::tempfile().unwrap();
        log.write_all(&[0xab; 10_000]).unwrap();
        log.rewind().unwrap();
        assert_eq!(check(Path::new("db"), LogMark::Open, Some(&log)).unwrap(), NewestCommits::DamagedLog);
    }
}
