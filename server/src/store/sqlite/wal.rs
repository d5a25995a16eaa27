//! This module finds damage in a write-ahead log. After a crash, SQLite ignores everything behind the first frame that
//! is not valid, because the frame can be the rest of a commit that was never acknowledged. SQLite does not tell
//! whether acknowledged commits follow.
//!
//! The format of the file is documented by SQLite ("WAL-Mode File Format"). Integers are big-endian.

use std::io::{self, BufReader, ErrorKind, Read};

/// Length of the header of the log.
const HEADER: usize = 32;

/// Length of the header of a frame. The content of one page follows the header.
const FRAME_HEADER: usize = 24;

/// First 4 bytes of a log. The last bit tells whether the checksums read big-endian integers.
const MAGIC: u32 = 0x377f_0682;

/// Largest page of an SQLite database, in bytes.
pub const LARGEST_PAGE: usize = 65_536;

/// The state of a write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalState {
    /// The log has no commit.
    Empty,
    /// No damage was found.
    Intact,
    /// The header is damaged, or commits follow a damaged frame.
    Damaged,
}

/// Two sums that continue from frame to frame.
type Checksum = [u32; 2];

struct WalHeader {
    is_big_endian: bool,
    page_size: usize,
    salt: [u8; 8],
    checksum: Checksum,
}

/// Reads a write-ahead log and returns its state. Fails if the log can't be read.
///
/// A frame that is not valid is damaged if at least two commits follow in an unbroken chain of checksums: SQLite writes
/// a commit only after the previous commit is on disk. One commit behind the frame can be the rest of a commit that was
/// never acknowledged, because a disk writes in any order.
pub fn check(log: impl Read) -> io::Result<WalState> {
    let mut log = BufReader::with_capacity(1 << 20, log);
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(WalState::Empty);
    }
    let mut frame = [0; FRAME_HEADER];
    let Some(header) = parse_header(&header) else {
        let has_frames = fill(&mut log, &mut frame)?;
        return Ok(if has_frames { WalState::Damaged } else { WalState::Empty });
    };
    check_frames(log, &header)
}

fn check_frames(mut log: impl Read, header: &WalHeader) -> io::Result<WalState> {
    let mut frame = vec![0; FRAME_HEADER + header.page_size];
    let mut checksum = header.checksum;
    let mut is_broken = false;
    let mut has_commit = false;
    let mut commits_behind = 0;
    while fill(&mut log, &mut frame)? {
        let stored = [read_u32(&frame, 16), read_u32(&frame, 20)];
        let is_valid = frame[8..16] == header.salt && sum_frame(header, checksum, &frame) == stored;
        // Continue from the stored checksum, so that the frames behind a damaged frame can be checked.
        checksum = stored;
        let is_commit = is_valid && read_u32(&frame, 4) != 0;
        if !is_valid {
            is_broken = true;
            commits_behind = 0;
        } else if is_commit && is_broken {
            commits_behind += 1;
            if commits_behind == 2 {
                return Ok(WalState::Damaged);
            }
        }
        has_commit |= is_commit;
    }
    Ok(if has_commit { WalState::Intact } else { WalState::Empty })
}

fn parse_header(bytes: &[u8; HEADER]) -> Option<WalHeader> {
    let magic = read_u32(bytes, 0);
    let is_big_endian = magic & 1 == 1;
    let checksum = sum([0, 0], &bytes[..24], is_big_endian);
    let page_size = usize::try_from(read_u32(bytes, 8)).ok()?;
    let is_valid = magic & !1 == MAGIC
        && checksum == [read_u32(bytes, 24), read_u32(bytes, 28)]
        && page_size.is_power_of_two()
        && page_size <= LARGEST_PAGE;
    let mut salt = [0; 8];
    salt.copy_from_slice(&bytes[16..24]);
    is_valid.then_some(WalHeader { is_big_endian, page_size, salt, checksum })
}

/// Returns the checksum of a frame that follows a frame with the checksum `previous`.
fn sum_frame(header: &WalHeader, previous: Checksum, frame: &[u8]) -> Checksum {
    let head = sum(previous, &frame[..8], header.is_big_endian);
    sum(head, &frame[FRAME_HEADER..], header.is_big_endian)
}

fn sum([mut first, mut second]: Checksum, bytes: &[u8], is_big_endian: bool) -> Checksum {
    for pair in bytes.chunks_exact(8) {
        let [left, right] = [read_u32(pair, 0), read_u32(pair, 4)];
        let [left, right] = if is_big_endian { [left, right] } else { [left.swap_bytes(), right.swap_bytes()] };
        first = first.wrapping_add(left).wrapping_add(second);
        second = second.wrapping_add(right).wrapping_add(first);
    }
    [first, second]
}

/// Returns the big-endian integer at an offset. Every caller reads within a buffer of a fixed length.
pub fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut integer = [0; 4];
    integer.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(integer)
}

/// Fills `buffer` from the log. Returns false if the log ends before.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
