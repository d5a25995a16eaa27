use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn database_is_locked_under_every_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("db", &link).unwrap();
    // The first name is a symbolic link to a file that does not exist yet.
    let held = DatabaseFile::open(&link).unwrap();
    assert_eq!(held.path(), path.canonicalize().unwrap());
    for name in [&path, &link] {
        assert!(matches!(DatabaseFile::open(name), Err(OpenError::InUse(_))), "{}", name.display());
    }
    drop(held);
    DatabaseFile::open(&path).unwrap();
}

#[test]
fn file_with_several_links_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(DatabaseFile::open(&path).unwrap());
    std::fs::hard_link(&path, folder.path().join("other")).unwrap();
    assert!(matches!(DatabaseFile::open(&path), Err(OpenError::SeveralLinks { links: 2, .. })));
}

#[test]
fn folder_and_device_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path(), Path::new("/dev/null")] {
        assert!(matches!(DatabaseFile::open(path), Err(OpenError::Unreadable { .. })), "{}", path.display());
    }
}

#[test]
fn moved_replaced_and_removed_files_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let moved = folder.path().join("moved");
    let held = DatabaseFile::open(&path).unwrap();
    held.check_in_place().unwrap();
    std::fs::rename(&path, &moved).unwrap();
    assert!(held.check_in_place().is_err());
    std::fs::copy(&moved, &path).unwrap();
    assert!(held.check_in_place().is_err());
    std::fs::rename(&moved, &path).unwrap();
    held.check_in_place().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(held.check_in_place().is_err());
}

#[test]
fn only_the_owner_can_read_a_new_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(DatabaseFile::open(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
}

/// The log stays under the old name if the database file is moved.
#[test]
fn log_of_a_moved_database_stays_locked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let first = DatabaseFile::open(&path).unwrap();
    assert!(WalFile::open(&first).unwrap().is_none());
    std::fs::write(wal_path(&path), "log").unwrap();
    let wal = WalFile::open(&first).unwrap().unwrap();
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    let second = DatabaseFile::open(&path).unwrap();
    assert!(matches!(WalFile::open(&second), Err(OpenError::InUse(_))));
    wal.check_in_place().unwrap();
    std::fs::rename(wal_path(&path), folder.path().join("moved-wal")).unwrap();
    assert!(wal.check_in_place().is_err());
    std::fs::write(wal_path(&path), "another log").unwrap();
    assert!(wal.check_in_place().is_err());
}
