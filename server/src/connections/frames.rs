//! This module counts the HTTP/2 frames in the bytes that a client sends. The module reads only the header of each
//! frame, never the content.

/// The bytes that every client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Size of the header of a frame: the length of the content (3 bytes), the type, the flags, and the stream (4 bytes).
const HEADER_BYTES: usize = 9;

/// The type of a frame with a part of a request.
const DATA: u8 = 0;
/// The smallest content of a DATA frame that transports a large part of a request, in bytes.
const LARGE_BYTES: usize = 1024;
/// The type of a frame that starts a call.
const HEADERS: u8 = 1;
/// The type of a frame that continues the headers of a call.
const CONTINUATION: u8 = 9;
/// The flag of the frame that completes the headers of a call.
const END_HEADERS: u8 = 4;

/// The frames that a client has completed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Number of frames of any type.
    pub count: u32,
    /// Number of calls whose headers are complete.
    pub calls: u32,
    /// Number of frames that transport no large part of a request.
    pub small: u32,
}

/// A reader of the bytes of one connection.
#[derive(Default)]
pub struct FrameReader {
    state: ParseState,
    /// Whether the client has completed a frame.
    has_frame: bool,
    /// Whether the latest complete frame started the headers of a call without completing the headers.
    has_open_headers: bool,
}

/// The part of the connection to which the next byte belongs.
enum ParseState {
    /// The preface. `received` bytes of the preface have arrived.
    Preface { received: usize },
    /// The header of a frame. The first `received` bytes of the header have arrived.
    Header { bytes: [u8; HEADER_BYTES], received: usize },
    /// The content of a frame. `remaining` bytes of the content have not arrived.
    Content { kind: u8, flags: u8, length: usize, remaining: usize },
    /// The content of another protocol, which the reader does not follow.
    OtherProtocol,
}

impl Default for ParseState {
    fn default() -> Self {
        Self::Preface { received: 0 }
    }
}

impl FrameReader {
    /// Reads the next bytes of the connection and returns the frames that these bytes complete.
    pub fn read(&mut self, mut bytes: &[u8]) -> Frames {
        let mut frames = Frames::default();
        while !bytes.is_empty() {
            let used = self.read_part(bytes, &mut frames);
            bytes = bytes.get(used..).unwrap_or_default();
        }
        frames
    }

    /// Returns whether the preface, the first frame, a started frame or the headers of a call are incomplete.
    pub fn is_incomplete(&self) -> bool {
        match self.state {
            ParseState::Header { received: 0, .. } => self.has_open_headers || !self.has_frame,
            ParseState::Preface { .. } | ParseState::Header { .. } | ParseState::Content { .. } => true,
            ParseState::OtherProtocol => false,
        }
    }

    /// Reads at most to the end of the current part of the connection and returns the number of bytes read.
    fn read_part(&mut self, bytes: &[u8], frames: &mut Frames) -> usize {
        match &mut self.state {
            ParseState::Preface { received } => {
                let rest = PREFACE.get(*received..).unwrap_or_default();
                let used = rest.len().min(bytes.len());
                *received += used;
                if rest.get(..used) != bytes.get(..used) {
                    self.state = ParseState::OtherProtocol;
                } else if used == rest.len() {
                    self.state = new_header();
                }
                used
            }
            ParseState::Header { bytes: header, received } => {
                let rest = header.get_mut(*received..).unwrap_or_default();
                let used = rest.len().min(bytes.len());
                let complete = used == rest.len();
                for (to, from) in rest.iter_mut().zip(bytes) {
                    *to = *from;
                }
                *received += used;
                if complete {
                    let [first, second, third, kind, flags, ..] = *header;
                    let length = u32::from_be_bytes([0, first, second, third]) as usize;
                    self.state = ParseState::Content { kind, flags, length, remaining: length };
                    self.end_content(frames);
                }
                used
            }
            ParseState::Content { remaining, .. } => {
                let used = bytes.len().min(*remaining);
                *remaining -= used;
                self.end_content(frames);
                used
            }
            ParseState::OtherProtocol => bytes.len(),
        }
    }

    /// Counts the current frame if the frame's content is complete.
    fn end_content(&mut self, frames: &mut Frames) {
        let ParseState::Content { kind, flags, length, remaining: 0 } = self.state else {
            return;
        };
        self.state = new_header();
        self.has_frame = true;
        frames.count += 1;
        frames.small += u32::from(kind != DATA || length < LARGE_BYTES);
        let has_headers = kind == HEADERS || kind == CONTINUATION;
        let ends_headers = has_headers && flags & END_HEADERS != 0;
        self.has_open_headers = has_headers && !ends_headers;
        frames.calls += u32::from(ends_headers);
    }
}

fn new_header() -> ParseState {
    ParseState::Header { bytes: [0; HEADER_BYTES], received: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend(content);
        frame
    }

    #[test]
    fn frames_are_counted_however_the_bytes_are_split() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, &[]));
        bytes.extend(frame(PING, 0, &[7; 8]));
        bytes.extend(frame(HEADERS, 0, &[1; 300]));
        bytes.extend(frame(CONTINUATION, END_HEADERS, &[2; 70_000]));
        bytes.extend(frame(HEADERS, END_HEADERS, &[3; 2]));
        bytes.extend(frame(DATA, 0, &[4; LARGE_BYTES]));
        bytes.extend(frame(DATA, 0, &[5; LARGE_BYTES - 1]));
        for size in [1, 2, 3, 9, 10, 64, 1_000, bytes.len()] {
            let mut reader = FrameReader::default();
            let mut total = Frames::default();
            for piece in bytes.chunks(size) {
                assert!(reader.is_incomplete() || total.count > 0);
                let frames = reader.read(piece);
                total.count += frames.count;
                total.calls += frames.calls;
                total.small += frames.small;
            }
            assert_eq!(total, Frames { count: 7, calls: 2, small: 6 }, "pieces of {size} bytes");
            assert!(!reader.is_incomplete(), "pieces of {size} bytes");
        }
    }

    #[test]
    fn started_connection_frame_or_headers_are_incomplete() {
        let mut reader = FrameReader::default();
        assert!(reader.is_incomplete());
        reader.read(PREFACE);
        assert!(reader.is_incomplete(), "the first frame is missing");
        reader.read(&frame(SETTINGS, 0, &[]));
        assert!(!reader.is_incomplete());
        reader.read(&[0, 0]);
        assert!(reader.is_incomplete(), "the header of a frame is missing");
        reader.read(&[8, PING, 0, 0, 0, 0, 0, 1]);
        assert!(reader.is_incomplete(), "the content of a frame is missing");
        reader.read(&[1; 7]);
        assert!(!reader.is_incomplete());
        reader.read(&frame(HEADERS, 0, &[1]));
        assert!(reader.is_incomplete(), "the rest of the headers is missing");
        reader.read(&frame(CONTINUATION, END_HEADERS, &[1]));
        assert!(!reader.is_incomplete());
    }

    #[test]
    fn other_protocols_have_no_frames() {
        let mut reader = FrameReader::default();
        assert_eq!(reader.read(b"GET / HTTP/1.1\r\n"), Frames::default());
        assert!(!reader.is_incomplete());
    }
}
