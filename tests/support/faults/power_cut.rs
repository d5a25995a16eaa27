//! The power cut: brings the files of a killed server into a state that a disk can have after the power was cut. The
//! changes that were synced are all there. Of the others, any part may be there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{DirEntryExt, FileExt};
use std::path::{Path, PathBuf};

use super::Faults;
use crate::support::random::Random;

/// The unit that a disk writes as a whole. The order in which a disk writes its sectors is arbitrary.
const SECTOR: u64 = 512;

/// The parts of the changes without a sync that are on the disk after the power cut.
#[derive(Debug, Clone, Copy)]
pub enum Survivors {
    /// All changes are lost.
    None,
    /// A random part of the changes is lost. For each file, a sector or a name survives with a random probability.
    Random,
}

impl Survivors {
    /// Chooses at random.
    pub fn choose(random: &mut Random) -> Self {
        if random.percent(30) { Self::None } else { Self::Random }
    }

    /// Returns the probability, in percent, that a sector of the next file survives.
    fn percent(self, random: &mut Random) -> usize {
        match self {
            Self::None => 0,
            Self::Random => [0, 20, 50, 80, 95, 100][random.below(6)],
        }
    }
}

/// Counts the changes that a power cut has undone.
#[derive(Debug, Default, Clone, Copy)]
pub struct Loss {
    /// Number of times that a sector was set back to its content before a write.
    pub sectors: usize,
    /// Number of files that vanished or appeared again.
    pub names: usize,
}

/// A record of the undo log: the bytes that a change has replaced. `faults.c` writes the records.
struct Record {
    range: Range<u64>,
    size: u64,
    new_size: u64,
    /// The replaced bytes: those of the range that lay before `size`.
    bytes: Vec<u8>,
}

impl Record {
    /// Removes the first record from a log. Returns None at the end, and for the incomplete record of a change that the
    /// kill prevented.
    fn take(log: &mut &[u8]) -> Option<Self> {
        let mut rest = *log;
        let mut number = || {
            let (bytes, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_ne_bytes(*bytes))
        };
        let (range, size, new_size) = (number()?..number()?, number()?, number()?);
        let length = range.end.min(size).saturating_sub(range.start);
        let (bytes, after) = rest.split_at_checked(usize::try_from(length).unwrap())?;
        *log = after;
        Some(Self { range, size, new_size, bytes: bytes.to_vec() })
    }

    /// Sets a range of the file back to its content before the change. Bytes that did not exist become 0.
    fn restore(&self, file: &File, range: Range<u64>) {
        let at = |offset: u64| usize::try_from(offset - self.range.start).unwrap().min(self.bytes.len());
        let mut old = self.bytes[at(range.start)..at(range.end)].to_vec();
        old.resize(usize::try_from(range.end - range.start).unwrap(), 0);
        file.write_all_at(&old, range.start).unwrap();
    }

    /// Splits the range of the record at the borders of sectors. Returns each sector with its part of the range.
    fn sectors(&self) -> impl Iterator<Item = (u64, Range<u64>)> {
        let sectors = self.range.start / SECTOR..self.range.end.div_ceil(SECTOR);
        let Range { start, end } = self.range;
        sectors.map(move |sector| (sector, start.max(sector * SECTOR)..end.min((sector + 1) * SECTOR)))
    }
}

/// Undoes the changes of a file that its undo log records, the newest change first. A sector survives a change with a
/// probability of `percent`, and then it has survived all older changes too. A truncation survives or is undone as a
/// whole, like the size of the file. Returns how many times a sector was set back.
pub fn undo(path: &Path, log: &[u8], percent: usize, random: &mut Random) -> usize {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut size = file.metadata().unwrap().len();
    let mut log = log;
    let records: Vec<Record> = std::iter::from_fn(|| Record::take(&mut log)).collect();
    let mut surviving = BTreeSet::new();
    let mut size_survives = false;
    let mut restored = 0;
    for record in records.iter().rev() {
        size_survives |= record.new_size != record.size && random.percent(percent);
        if !size_survives {
            size = record.size;
        }
        let is_truncation = record.new_size < record.size;
        for (sector, range) in record.sectors() {
            let survives = if is_truncation { size_survives } else { random.percent(percent) };
            if survives {
                surviving.insert(sector);
            }
            if !surviving.contains(&sector) {
                record.restore(&file, range);
                restored += 1;
            }
        }
    }
    file.set_len(size).unwrap();
    restored
}

impl Faults {
    /// Returns whether a file has a change that was not synced.
    pub fn has_unsynced_changes(&self) -> bool {
        fs::read_dir(self.state.join("undo")).unwrap().next().is_some()
    }

    /// Cuts the power. The server must have been killed, and no process may have the database open.
    pub fn cut_power(&self, survivors: Survivors, random: &mut Random) -> Loss {
        let mut loss = Loss::default();
        for (inode, path) in self.files() {
            // A file without a log has no change that was not synced.
            if let Ok(log) = fs::read(self.state.join("undo").join(inode.to_string())) {
                loss.sectors += undo(&path, &log, survivors.percent(random), random);
            }
        }
        let synced = self.synced_names();
        let current = names(&self.disk);
        let all_names: BTreeSet<&String> = synced.keys().chain(current.keys()).collect();
        for name in all_names {
            let (synced, current) = (synced.get(name), current.get(name));
            let percent = survivors.percent(random);
            if synced != current && !random.percent(percent) {
                self.restore_name(name, synced);
                loss.names += 1;
            }
        }
        self.forget();
        loss
    }

    /// Returns the path of each file: those in the folder, and those whose removal was not synced.
    fn files(&self) -> Vec<(u64, PathBuf)> {
        let folders = [self.disk.clone(), self.state.join("removed")];
        let files =
            folders.iter().flat_map(|folder| names(folder).into_iter().map(|(name, at)| (at, folder.join(name))));
        files.collect()
    }

    /// Returns the inode of each name when the folder was last synced.
    fn synced_names(&self) -> BTreeMap<String, u64> {
        let text = fs::read_to_string(self.state.join("names")).unwrap();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap());
        lines.map(|(inode, name)| (name.to_owned(), inode.parse().unwrap())).collect()
    }

    /// Sets a name back to the file that it had when the folder was last synced.
    fn restore_name(&self, name: &str, inode: Option<&u64>) {
        let path = self.disk.join(name);
        match inode {
            Some(inode) => fs::rename(self.state.join("removed").join(inode.to_string()), path).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }

    /// Makes the state of the files the synced one, and removes the shared memory, which the power cut has erased.
    fn forget(&self) {
        for folder in ["undo", "removed"] {
            fs::remove_dir_all(self.state.join(folder)).unwrap();
            fs::create_dir(self.state.join(folder)).unwrap();
        }
        // Ignore the error, because the file may not exist yet.
        let _ = fs::remove_file(self.disk.join("runhub.db-shm"));
        let lines: String = names(&self.disk).iter().map(|(name, inode)| format!("{inode} {name}\n")).collect();
        fs::write(self.state.join("names"), lines).unwrap();
    }
}

/// Returns the inode of each file in a folder, without SQLite's shared memory.
fn names(folder: &Path) -> BTreeMap<String, u64> {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|file| file.file_type().unwrap().is_file());
    let names = files.map(|file| (file.file_name().into_string().unwrap(), file.ino()));
    names.filter(|(name, _)| !name.ends_with("-shm")).collect()
}
