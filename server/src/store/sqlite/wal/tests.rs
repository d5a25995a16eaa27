use std::path::Path;

use rusqlite::Connection;

use super::*;

const PAGE: usize = 4_096;

/// Returns the write-ahead log of a database with 8 commits of one or more frames each.
fn write_log(folder: &Path) -> Vec<u8> {
    let path = folder.join("db");
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.execute_batch("CREATE TABLE filled (bytes BLOB)").unwrap();
    for _ in 0..7 {
        conn.execute("INSERT INTO filled VALUES (zeroblob(10000))", []).unwrap();
    }
    std::fs::read(folder.join("db-wal")).unwrap()
}

fn offset_of_frame(number: usize) -> usize {
    HEADER + number * (FRAME_HEADER + PAGE)
}

fn count_frames(log: &[u8]) -> usize {
    (log.len() - HEADER) / (FRAME_HEADER + PAGE)
}

fn flip(log: &[u8], at: usize) -> Vec<u8> {
    let mut flipped = log.to_vec();
    flipped[at] ^= 1;
    flipped
}

#[test]
fn undamaged_log_is_intact_wherever_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let log = write_log(folder.path());
    let is_commit = |frame: usize| read_u32(&log, offset_of_frame(frame) + 4) != 0;
    for frames in 0..=count_frames(&log) {
        let end = offset_of_frame(frames);
        let expected = if (0..frames).any(is_commit) { WalState::Intact } else { WalState::Empty };
        assert_eq!(check(&log[..end]).unwrap(), expected, "{end}");
        assert_ne!(check(&log[..end.saturating_sub(100)]).unwrap(), WalState::Damaged, "{end}");
    }
    assert_eq!(check(&log[..0]).unwrap(), WalState::Empty);
    assert_eq!(check(&log[..HEADER - 1]).unwrap(), WalState::Empty);
}

/// Every frame has several fields. A flipped bit in any of them breaks the chain of checksums.
#[test]
fn damage_before_the_last_two_commits_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let log = write_log(folder.path());
    let frames = count_frames(&log);
    let commits: Vec<_> = (0..frames).filter(|frame| read_u32(&log, offset_of_frame(*frame) + 4) != 0).collect();
    let last_two = commits[commits.len() - 2];
    for frame in 0..frames {
        for field in [0, 8, 16, FRAME_HEADER, FRAME_HEADER + PAGE - 1] {
            let damaged = flip(&log, offset_of_frame(frame) + field);
            // The frame behind a frame with a damaged checksum is not valid either.
            let is_checksum = field == 16;
            let found = check(&*damaged).unwrap();
            let expected = if is_checksum { frame + 1 < commits[commits.len() - 3] } else { frame < last_two };
            if expected {
                assert_eq!(found, WalState::Damaged, "frame {frame}, field {field}");
            } else if frame > last_two {
                assert_eq!(found, WalState::Intact, "frame {frame}, field {field}");
            }
        }
    }
}

#[test]
fn damaged_header_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let log = write_log(folder.path());
    for at in 0..HEADER {
        assert_eq!(check(&*flip(&log, at)).unwrap(), WalState::Damaged, "{at}");
    }
}

/// SQLite writes over an old log from the beginning, so frames of the old log follow the newest frame.
#[test]
fn frames_of_an_older_log_are_not_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    conn.execute_batch("CREATE TABLE filled (bytes BLOB); INSERT INTO filled VALUES (zeroblob(100000))").unwrap();
    conn.execute_batch("INSERT INTO filled VALUES (zeroblob(100000))").unwrap();
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    conn.execute_batch("INSERT INTO filled VALUES (1)").unwrap();
    let log = std::fs::read(folder.path().join("db-wal")).unwrap();
    assert!(count_frames(&log) > 40);
    assert_eq!(check(&*log).unwrap(), WalState::Intact);
}
