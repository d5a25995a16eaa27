//! This module defines why a database can't be opened.

use std::path::{Path, PathBuf};

/// Specifies why a database can't be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OpenError {
    #[error("another runhub has the database {} open: stop that runhub, or pass another --db", .0.display())]
    InUse(PathBuf),
    #[error("the database {} was written by a newer runhub: upgrade this runhub, or pass another --db", .0.display())]
    TooNew(PathBuf),
    #[error("{} is not a database of Runhub, and was not changed: pass another --db", .0.display())]
    OtherFile(PathBuf),
    #[error(
        "the database {} has {links} hard links, and a second runhub could open it under another name: \
        remove the other links (find them with `find -samefile`)", path.display()
    )]
    SeveralLinks { path: PathBuf, links: u64 },
    #[error(
        "the commits in {} do not belong to the database {}, or another program has written them: they were not applied. \
        If another database had this name before, move the log back to that database. If another program has written to \
        this database, close the program, or open and close the database with it", log.display(), db.display()
    )]
    OtherLog { db: PathBuf, log: PathBuf },
    #[error("this runhub contains SQLite {0}, which can lose commits: use a runhub with SQLite 3.51.3 or newer")]
    OldSqlite(&'static str),
    #[error("can't open the database {}: its disk is full: free space, or pass another --db", .0.display())]
    FullDisk(PathBuf),
    #[error("can't open the database {}: {cause}: check the file and its folder, or pass another --db", path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("can't open the database {database}: {cause}: check the database, or pass another --store")]
    Unreachable { database: String, cause: String },
    #[error(
        "the database {0} has no tables of this version: run `runhub migrate` first, or start without --no-migrate"
    )]
    NotMigrated(String),
    #[error("the database {0} was migrated by a newer runhub: upgrade this runhub, or pass another --store")]
    NewerSchema(String),
}

impl OpenError {
    pub(super) fn unreadable(path: &Path, cause: impl std::fmt::Display) -> Self {
        Self::Unreadable { path: path.to_owned(), cause: cause.to_string() }
    }
}
