//! This module is a proxy in front of the server. The proxy reserves its port while the server is down, and can drop a
//! response of the server.

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

/// Maximum number of connections that wait to be accepted. A test opens fewer connections.
const BACKLOG: u32 = 64;

const BUFFER_BYTES: usize = 64 * 1024;

pub(crate) struct Proxy {
    /// Socket that is bound but never listens. While the server is down, no other process can bind the port, and
    /// connections to the port are refused.
    _reservation: TcpSocket,
    address: SocketAddr,
    server: PathBuf,
    drop_response: Arc<AtomicBool>,
    /// Channel that notifies every relay to cut its connection.
    cut: watch::Sender<()>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Reserves a port and returns a closed proxy of the server that listens on the Unix socket `server`. Fails if no
    /// port can be bound.
    pub(crate) fn bind(server: PathBuf) -> Result<Self> {
        let reservation = bind_reusable_socket("127.0.0.1:0".parse()?)?;
        let address = reservation.local_addr()?;
        Ok(Self {
            _reservation: reservation,
            address,
            server,
            drop_response: Arc::default(),
            cut: watch::Sender::new(()),
            accepting: None,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections and forwards each connection to the server, until the proxy is closed. Fails if the proxy
    /// can't listen on its port.
    pub(crate) fn open(&mut self) -> Result<()> {
        let listener = bind_reusable_socket(self.address)?.listen(BACKLOG)?;
        let relay =
            Relay { server: self.server.clone(), drop_response: self.drop_response.clone(), cut: self.cut.subscribe() };
        self.accepting = Some(tokio::spawn(accept(listener, relay)));
        Ok(())
    }

    /// Stops accepting connections. An existing connection remains until the server or [`cut`](Self::cut) ends the
    /// connection.
    pub(crate) async fn close(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The listener stays open until the aborted Tokio task has ended. Without this wait, the proxy could still
            // accept a connection.
            let _ = accepting.await;
        }
    }

    /// Cuts all existing connections.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    /// Cuts the connection on which the server's next response arrives, before the client receives the response.
    pub(crate) fn drop_response(&self) {
        self.drop_response.store(true, Ordering::SeqCst);
    }
}

/// Returns a socket that is bound to the address. Other sockets that allow it can bind the same address. Fails if
/// another process has bound the address.
pub(crate) fn bind_reusable_socket(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Without SO_REUSEPORT, the listening socket can't bind the port that the reservation socket holds.
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, relay: Relay) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(relay.clone().run(client));
    }
}

/// Relays the bytes of one connection between a client and the server.
#[derive(Clone)]
struct Relay {
    server: PathBuf,
    drop_response: Arc<AtomicBool>,
    cut: watch::Receiver<()>,
}

impl Relay {
    /// Relays bytes until the client or the server closes the connection, or until the scenario tells the proxy to
    /// close the connection. Then closes the connection on both sides.
    async fn run(mut self, client: TcpStream) {
        let Ok(server) = UnixStream::connect(&self.server).await else { return };
        // Without TCP_NODELAY, the proxy is only slower, so the error of a failed `set_nodelay` is ignored.
        let _ = client.set_nodelay(true);
        let (mut from_client, to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        tokio::select! {
            _ = copy(&mut from_client, &mut to_server) => {}
            _ = copy_responses(from_server, to_client, &self.drop_response) => {}
            _ = self.cut.changed() => {}
        }
    }
}

/// Copies the server's bytes to the client. Stops before a response that must be dropped. Fails if a connection breaks.
async fn copy_responses(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, drop_response: &AtomicBool) -> Result<()> {
    let mut frames = FrameParser::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        let has_response = frames.completes_headers(&buffer[..read]);
        if read == 0 || (has_response && drop_response.swap(false, Ordering::SeqCst)) {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

const FRAME_HEADER_BYTES: usize = 9;
/// The type of a HEADERS frame, which is the first frame of a response.
const HEADERS: u8 = 1;

/// Parses the HTTP/2 frames (RFC 9113, section 4.1) that a server sends.
#[derive(Default)]
struct FrameParser {
    /// The received bytes of the current frame's header.
    header: Vec<u8>,
    /// The number of payload bytes of the current frame that have not been received.
    payload: usize,
}

impl FrameParser {
    /// Returns whether the passed bytes complete the header of a HEADERS frame.
    fn completes_headers(&mut self, bytes: &[u8]) -> bool {
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
    const RESPONSE: [u8; 10] = [0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];

    #[test]
    fn response_is_found_at_every_split_of_the_bytes() {
        let all = [SETTINGS.as_slice(), &RESPONSE].concat();
        for split in 0..all.len() {
            let mut frames = FrameParser::default();
            let found = [frames.completes_headers(&all[..split]), frames.completes_headers(&all[split..])];
            assert_eq!(found.iter().filter(|&&found| found).count(), 1, "split at {split}");
        }
        assert!(!FrameParser::default().completes_headers(&SETTINGS));
    }

    #[tokio::test]
    async fn closed_proxy_refuses_connections_and_keeps_its_port() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sock");
        let server = UnixListener::bind(&path).unwrap();
        let mut proxy = Proxy::bind(path).unwrap();
        assert!(TcpStream::connect(proxy.address()).await.is_err());
        for _ in 0..3 {
            proxy.open().unwrap();
            let mut client = TcpStream::connect(proxy.address()).await.unwrap();
            client.write_all(b"ping").await.unwrap();
            let mut connection = server.accept().await.unwrap().0;
            let mut received = [0; 4];
            connection.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"ping");
            proxy.close().await;
            assert!(TcpStream::connect(proxy.address()).await.is_err());
            // An existing connection remains open after the proxy is closed, until `cut` ends the connection.
            connection.write_all(&SETTINGS).await.unwrap();
            client.read_exact(&mut [0; SETTINGS.len()]).await.unwrap();
            proxy.cut();
            assert_eq!(connection.read(&mut received).await.unwrap(), 0);
        }
    }
}
