//! This module keeps the parts of a snapshot, or of a large event, until the watcher takes them. The first part stays
//! in memory, and all other parts are in an unlinked temporary file beside the database. A watcher that reads slowly
//! thus keeps neither memory nor a read transaction, which would let the WAL grow.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Maximum size of a first part in memory, in bytes. A larger first part is written to the file.
const FIRST_BYTES: usize = 128 * 1024;

/// The temporary files of all subscriptions.
pub struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    used_bytes: AtomicU64,
    /// One permit for each file, because the process can open a limited number of files.
    files: Arc<Semaphore>,
}

impl Spool {
    /// Returns a spool of at most `max_files` files in `folder`, which have at most `max_bytes` in total.
    pub fn new(folder: PathBuf, max_bytes: u64, max_files: usize) -> Self {
        Self { folder, max_bytes, used_bytes: AtomicU64::new(0), files: Arc::new(Semaphore::new(max_files)) }
    }
}

/// A temporary file. Dropping the value removes the file.
struct SpoolFile {
    spool: Arc<Spool>,
    bytes: u64,
    file: BufWriter<File>,
    _permit: OwnedSemaphorePermit,
}

impl SpoolFile {
    fn create(spool: Arc<Spool>) -> Result<Self> {
        let permit = Arc::clone(&spool.files).try_acquire_owned().map_err(|_| Error::Overloaded)?;
        let file = tempfile::tempfile_in(&spool.folder).map_err(|cause| Error::from_io(&cause))?;
        Ok(Self { spool, bytes: 0, file: BufWriter::new(file), _permit: permit })
    }

    /// Writes bytes to the end of the file. Fails with `Error::Overloaded` if the spool would exceed its size,
    /// and with `Error::StoreFull` if the disk is full.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        let add = |used: u64| used.checked_add(length).filter(|used| *used <= self.spool.max_bytes);
        self.spool.used_bytes.fetch_update(Relaxed, Relaxed, add).map_err(|_| Error::Overloaded)?;
        self.bytes += length;
        self.file.write_all(bytes).map_err(|cause| Error::from_io(&cause))
    }

    /// Reads the next `length` bytes of the file.
    fn read(&mut self, length: usize) -> Result<Bytes> {
        let mut bytes = vec![0; length];
        self.file.get_mut().read_exact(&mut bytes).map_err(Error::internal)?;
        Ok(bytes.into())
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.spool.used_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// A writer of the parts of a snapshot or a large event.
pub struct PartsWriter {
    spool: Arc<Spool>,
    parts: SpooledParts,
}

/// The parts of a snapshot or a large event, in order.
#[derive(Default)]
pub struct SpooledParts {
    first: Option<Bytes>,
    /// The lengths of the parts in the file, in reverse order.
    lengths: Vec<usize>,
    file: Option<SpoolFile>,
}

impl PartsWriter {
    /// Returns a writer that has written no part.
    pub fn new(spool: Arc<Spool>) -> Self {
        Self { spool, parts: SpooledParts::default() }
    }

    /// Writes the next part. Fails with `Error::Overloaded` if the spool would exceed its size or its number of files.
    pub fn write(&mut self, part: &[u8]) -> Result<()> {
        let Self { spool, parts } = self;
        if parts.first.is_none() && parts.lengths.is_empty() && part.len() <= FIRST_BYTES {
            parts.first = Some(Bytes::copy_from_slice(part));
            return Ok(());
        }
        let file = match &mut parts.file {
            Some(file) => file,
            None => parts.file.insert(SpoolFile::create(Arc::clone(spool))?),
        };
        file.write(part)?;
        parts.lengths.push(part.len());
        Ok(())
    }

    /// Returns the written parts.
    pub fn finish(self) -> Result<SpooledParts> {
        let mut parts = self.parts;
        parts.lengths.reverse();
        if let Some(file) = &mut parts.file {
            // Seeking writes the buffered bytes first.
            file.file.rewind().map_err(|cause| Error::from_io(&cause))?;
        }
        Ok(parts)
    }
}

impl SpooledParts {
    /// Returns whether all parts have been returned.
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.lengths.is_empty()
    }

    /// Returns the next part, or None after the last part. Fails if the temporary file can't be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(length) = self.lengths.pop() else {
            return Ok(None);
        };
        let Some(mut file) = self.file.take() else {
            return Ok(None);
        };
        let reading = tokio::task::spawn_blocking(move || (file.read(length), file));
        let (part, file) = reading.await.map_err(Error::internal)?;
        // The file is removed with its last part.
        self.file = Some(file).filter(|_| !self.lengths.is_empty());
        part.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_spool(max_bytes: u64) -> (Arc<Spool>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Arc::new(Spool::new(folder.path().to_owned(), max_bytes, 1)), folder)
    }

    async fn read_all(mut parts: SpooledParts) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Some(part) = parts.next().await.unwrap() {
            all.push(part);
        }
        all
    }

    #[tokio::test]
    async fn parts_are_read_in_order_and_release_the_spool() {
        let (spool, folder) = new_spool(1_000_000);
        for count in [0, 1, 2, 50] {
            let parts: Vec<Vec<u8>> = (0..count).map(|number| vec![number; 100 * usize::from(number)]).collect();
            let mut writer = PartsWriter::new(Arc::clone(&spool));
            parts.iter().for_each(|part| writer.write(part).unwrap());
            assert_eq!(spool.used_bytes.load(Relaxed) > 0, count > 1);
            assert_eq!(read_all(writer.finish().unwrap()).await, parts);
            assert_eq!(spool.used_bytes.load(Relaxed), 0);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the files have no names");
    }

    #[tokio::test]
    async fn full_spool_refuses_further_parts_until_a_file_is_dropped() {
        let (spool, _folder) = new_spool(100);
        let mut first = PartsWriter::new(Arc::clone(&spool));
        first.write(&[1; 500]).unwrap();
        first.write(&[1; 80]).unwrap();
        assert_eq!(first.write(&[1; 30]), Err(Error::Overloaded), "100 bytes at most");
        let mut second = PartsWriter::new(Arc::clone(&spool));
        second.write(&[2; 500]).unwrap();
        assert_eq!(second.write(&[2; 10]), Err(Error::Overloaded), "one file at most");
        drop(first);
        second.write(&[2; 30]).unwrap();
        drop(second);
        assert_eq!(spool.used_bytes.load(Relaxed), 0);
    }
}
