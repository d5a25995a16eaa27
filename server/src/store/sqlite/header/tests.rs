use std::path::PathBuf;

use super::super::file::wal_path;
use super::super::open_writer;
use super::*;

/// Returns the content of all files in the folder of a database.
fn read_folder(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn inspect_path(path: &Path) -> Result<Inspection, OpenError> {
    inspect(&DatabaseFile::open(path)?)
}

#[test]
fn files_of_other_programs_are_refused_without_a_change() {
    let text =
        |path: &Path| std::fs::write(path, "a text that is longer than the header of a database: ".repeat(9)).unwrap();
    let short = |path: &Path| std::fs::write(path, "short").unwrap();
    let named = |path: &Path| {
        let conn = Connection::open(path).unwrap();
        conn.execute_batch("PRAGMA application_id = 7; CREATE TABLE runs (key)").unwrap();
    };
    let tables = |path: &Path| Connection::open(path).unwrap().execute_batch("CREATE TABLE runs (key)").unwrap();
    let wal = |path: &Path| {
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE runs (key); INSERT INTO runs VALUES (1)";
        Connection::open(path).unwrap().execute_batch(sql).unwrap();
    };
    let programs: [fn(&Path); 5] = [text, short, named, tables, wal];
    for (name, create) in programs.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("what?is #this%41.db");
        create(&path);
        let before = read_folder(&path);
        assert!(matches!(inspect_path(&path), Err(OpenError::OtherFile(_))), "{name}");
        assert_eq!(read_folder(&path), before, "{name}");
    }
}

#[test]
fn databases_of_runhub_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    assert_eq!(inspect_path(&path).unwrap(), Inspection { is_new: true, is_open: false });
    let conn = open_writer(&path).unwrap();
    conn.execute("INSERT INTO counters (one, last_position, last_key, log_id, is_open) VALUES (1, 0, 0, 'log', 1)", [])
        .unwrap();
    // The tables are only in the write-ahead log until the checkpoint.
    std::fs::copy(&path, folder.path().join("copy")).unwrap();
    std::fs::copy(wal_path(&path), folder.path().join("copy-wal")).unwrap();
    assert_eq!(inspect_path(&folder.path().join("copy")).unwrap(), Inspection::default());
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(conn);
    // A database of an old version has the application_id 0.
    assert_eq!(inspect_path(&path).unwrap(), Inspection { is_new: false, is_open: true });
    let conn = open_writer(&path).unwrap();
    conn.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    conn.execute("UPDATE counters SET is_open = 0", []).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(conn);
    assert_eq!(inspect_path(&path).unwrap(), Inspection { is_new: false, is_open: false });
}

/// A server that ends during a checkpoint leaves such a file. The write-ahead log repairs the file.
#[test]
fn partly_written_database_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = open_writer(&path).unwrap();
    conn.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(conn);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[LENGTH..].fill(0xab);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(inspect_path(&path).unwrap(), Inspection { is_new: false, is_open: false });
}

#[test]
fn database_of_the_oldest_version_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let sql = include_str!("../../../../migrations/sqlite/0001_initial.sql");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    assert_eq!(inspect_path(&path).unwrap(), Inspection::default());
}
