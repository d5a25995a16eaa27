//! The undo of a file's changes and of names, without a server.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::faults::{Faults, Survivors, undo};
use crate::support::random::Random;

/// Writes a file and an undo log of two changes: the file had 1,500 bytes of 1, a write put bytes of 2 at 1,000 to
/// 2,000, and a truncation left 1,200 bytes. Returns the content of the file after the changes are undone.
fn undone(percent: usize, cut_log_by: usize, seed: u64) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, [[1; 1_000].as_slice(), &[2; 200]].concat()).unwrap();
    let mut log = record(1_000, 2_000, 1_500, 2_000, &[1; 500]);
    log.extend(record(1_200, 2_000, 2_000, 1_200, &[2; 800]));
    log.truncate(log.len() - cut_log_by);
    undo(&path, &log, percent, &mut Random::new(seed));
    fs::read(&path).unwrap()
}

fn record(from: i64, to: i64, size: i64, new_size: i64, bytes: &[u8]) -> Vec<u8> {
    [from, to, size, new_size].map(i64::to_ne_bytes).concat().into_iter().chain(bytes.iter().copied()).collect()
}

#[test]
fn nothing_survives_with_probability_0() {
    assert_eq!(undone(0, 0, 1), [1; 1_500]);
}

#[test]
fn everything_survives_with_probability_100() {
    assert_eq!(undone(100, 0, 1), [[1; 1_000].as_slice(), &[2; 200]].concat());
}

/// The change of an incomplete record did not happen. The test's file has the change all the same, so only the sizes of
/// the older change count.
#[test]
fn incomplete_record_is_ignored() {
    assert_eq!(undone(0, 1, 1).len(), 1_500);
}

#[test]
fn each_sector_has_its_content_before_or_after_a_write() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let content = undone(50, 0, seed);
        assert!([1_200, 1_500, 2_000].contains(&content.len()), "{}", content.len());
        // Bytes that no write has changed, and bytes of the first sector that the write has changed.
        assert_eq!(content[..1_000], [1; 1_000]);
        assert!(content[1_000..1_024].iter().all(|byte| *byte == content[1_000]), "a sector is torn");
        seen.insert((content.len(), content[1_000]));
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

/// A name that was not synced vanishes, and a file whose removal was not synced appears again.
#[test]
fn names_that_were_not_synced_are_undone() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::new(folder.path());
    let (disk, state) = (folder.path().join("disk"), folder.path().join("state"));
    fs::write(disk.join("removed"), "content").unwrap();
    let inode = fs::metadata(disk.join("removed")).unwrap().ino();
    fs::write(state.join("names"), format!("{inode} removed\n")).unwrap();
    fs::rename(disk.join("removed"), state.join("removed").join(inode.to_string())).unwrap();
    fs::write(disk.join("created"), "content").unwrap();
    assert_eq!(faults.cut_power(Survivors::None, &mut Random::new(1)).names, 2);
    assert!(!disk.join("created").exists());
    assert_eq!(fs::read_to_string(disk.join("removed")).unwrap(), "content");
}
