//! This module records what a client sends and reads, and yields to other connections after a number of frames.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::frames::FrameReader;

/// Number of small frames after which the server serves other connections before it reads more frames of the
/// connection. Without this limit, two clients that send small frames without pause would occupy both threads of a
/// server on two cores, and no thread would read from other connections. h2 reads at most 16 KiB at once.
const FRAMES_PER_TURN: u32 = 64;

/// A connection that records its client's activity.
pub struct MeteredIo<IO> {
    io: IO,
    reader: FrameReader,
    activity: Arc<Activity>,
    /// Number of small frames that the server has read since it last served other connections.
    frames_in_turn: u32,
}

impl<IO> MeteredIo<IO> {
    /// Returns the connection `io`, which records its activity in `activity`.
    pub fn new(io: IO, activity: Arc<Activity>) -> Self {
        Self { io, reader: FrameReader::default(), activity, frames_in_turn: 0 }
    }

    fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        let frames = self.reader.read(bytes);
        self.frames_in_turn = self.frames_in_turn.saturating_add(frames.small);
        self.activity.record_received(&frames, self.reader.is_incomplete()).map_err(io::Error::other)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for MeteredIo<IO> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, to: &mut ReadBuf) -> Poll<io::Result<()>> {
        if self.frames_in_turn >= FRAMES_PER_TURN {
            self.frames_in_turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = to.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, to);
        match read {
            Poll::Pending => self.frames_in_turn = 0,
            Poll::Ready(Ok(())) => {
                if let Err(error) = self.record(to.filled().get(before..).unwrap_or_default()) {
                    // A read that fails must not fill the buffer.
                    to.set_filled(before);
                    return Poll::Ready(Err(error));
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for MeteredIo<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.activity.record_write(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[io::IoSlice],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.activity.record_write(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

    #[tokio::test]
    async fn reader_pauses_after_a_number_of_frames() {
        let (mut client, server) = duplex(64 * 1024);
        let mut server = MeteredIo::new(server, Arc::default());
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&PING.repeat(200)).await.unwrap();
        let mut bytes = vec![0; 24 + 17 * FRAMES_PER_TURN as usize];
        assert_eq!(server.read(&mut bytes).now_or_never().unwrap().unwrap(), bytes.len());
        assert!(server.read(&mut bytes).now_or_never().is_none(), "the turn is over");
        assert_eq!(server.read(&mut bytes).now_or_never().unwrap().unwrap(), bytes.len(), "the next turn");
    }

    #[tokio::test]
    async fn connection_with_too_many_frames_fails() {
        let (mut client, server) = duplex(1024 * 1024);
        let mut server = MeteredIo::new(server, Arc::default());
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&PING.repeat(12_000)).await.unwrap();
        drop(client);
        let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("without making a call"), "{error}");
    }
}
