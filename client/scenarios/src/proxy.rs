//! A proxy before the server: it holds the port while the server is away, and can lose an answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Waiting connections; a test has few.
const BACKLOG: u32 = 64;

const BUFFER_BYTES: usize = 64 * 1024;

pub(crate) struct Proxy {
    /// Bound and never listening: while the server is away, nobody else gets the port, and who connects is refused.
    _held: TcpSocket,
    address: SocketAddr,
    server: PathBuf,
    lose_answer: Arc<AtomicBool>,
    /// Changes when all connections are to be cut.
    cut: watch::Sender<()>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Before a server that listens on this socket.
    pub(crate) fn bind(server: PathBuf) -> Result<Self> {
        let held = socket("127.0.0.1:0".parse()?)?;
        let address = held.local_addr()?;
        let (lose_answer, cut) = (Arc::default(), watch::Sender::new(()));
        Ok(Self { _held: held, address, server, lose_answer, cut, accepting: None })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes on what comes from now on.
    pub(crate) fn open(&mut self) -> Result<()> {
        let listener = socket(self.address)?.listen(BACKLOG)?;
        let relay =
            Relay { server: self.server.clone(), lose_answer: self.lose_answer.clone(), cut: self.cut.subscribe() };
        self.accepting = Some(tokio::spawn(accept(listener, relay)));
        Ok(())
    }

    /// Refuses who connects. Connections there are go on until the server ends them.
    pub(crate) async fn close(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // Only when the task is gone its listener is.
            let _ = accepting.await;
        }
    }

    /// Cuts all connections there are.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    /// Cuts the connection on which the next answer comes, before the answer gets through.
    pub(crate) fn lose_answer(&self) {
        self.lose_answer.store(true, Ordering::SeqCst);
    }
}

fn socket(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // For the held one and the listening one beside it.
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, relay: Relay) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(relay.clone().pass(client));
    }
}

/// What passes on one connection.
#[derive(Clone)]
struct Relay {
    server: PathBuf,
    lose_answer: Arc<AtomicBool>,
    cut: watch::Receiver<()>,
}

impl Relay {
    /// Ends when one side does, or is to be cut; then both are.
    async fn pass(mut self, client: TcpStream) {
        let Ok(server) = UnixStream::connect(&self.server).await else { return };
        // Where that can't be set it is slower, no more.
        let _ = client.set_nodelay(true);
        let ((mut from_client, to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
        tokio::select! {
            _ = copy(&mut from_client, &mut to_server) => {}
            _ = copy_answers(from_server, to_client, &self.lose_answer) => {}
            _ = self.cut.changed() => {}
        }
    }
}

async fn copy_answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lose_answer: &AtomicBool) -> Result<()> {
    let (mut frames, mut buffer) = (Frames::default(), vec![0; BUFFER_BYTES]);
    loop {
        let read = from.read(&mut buffer).await?;
        let has_answer = frames.take(&buffer[..read]);
        if read == 0 || (has_answer && lose_answer.swap(false, Ordering::SeqCst)) {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 1;

/// Follows the frames of HTTP/2 (RFC 9113, section 4.1) that a server sends.
#[derive(Default)]
struct Frames {
    header: Vec<u8>,
    /// What is still to come of the frame before.
    payload: usize,
}

impl Frames {
    /// Whether an answer's HEADERS begin within these bytes.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let mut has_headers = false;
        for &byte in bytes {
            if self.payload > 0 {
                self.payload -= 1;
                continue;
            }
            self.header.push(byte);
            if self.header.len() == FRAME_HEADER_BYTES {
                self.payload = self.header[..3].iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
                has_headers |= self.header[3] == HEADERS;
                self.header.clear();
            }
        }
        has_headers
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    const SETTINGS: [u8; 11] = [0, 0, 2, 4, 0, 0, 0, 0, 0, 1, 1];
    const ANSWER: [u8; 10] = [0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];

    #[test]
    fn an_answer_is_found_wherever_the_bytes_are_cut() {
        let all = [SETTINGS.as_slice(), &ANSWER].concat();
        for cut in 0..all.len() {
            let mut frames = Frames::default();
            let found = [frames.take(&all[..cut]), frames.take(&all[cut..])];
            assert_eq!(found.iter().filter(|&&found| found).count(), 1, "cut at {cut}");
        }
        assert!(!Frames::default().take(&SETTINGS));
    }

    #[tokio::test]
    async fn who_connects_while_it_is_closed_is_refused_and_the_port_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sock");
        let server = UnixListener::bind(&path).unwrap();
        let mut proxy = Proxy::bind(path).unwrap();
        assert!(TcpStream::connect(proxy.address()).await.is_err());
        for _ in 0..3 {
            proxy.open().unwrap();
            let mut client = TcpStream::connect(proxy.address()).await.unwrap();
            client.write_all(b"ping").await.unwrap();
            let (mut connection, mut heard) = (server.accept().await.unwrap().0, [0; 4]);
            connection.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"ping");
            proxy.close().await;
            assert!(TcpStream::connect(proxy.address()).await.is_err());
            // What there is goes on until it is cut.
            connection.write_all(&SETTINGS).await.unwrap();
            client.read_exact(&mut [0; SETTINGS.len()]).await.unwrap();
            proxy.cut();
            assert_eq!(connection.read(&mut heard).await.unwrap(), 0);
        }
    }
}
