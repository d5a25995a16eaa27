//! A proxy between the servers and PostgreSQL that loses a COMMIT, or the database's answer to a COMMIT.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

/// The message with which a server asks for a commit: a simple query, its length, and its text.
const COMMIT_REQUEST: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// The message of the database after a commit: a completed command, its length, and the name of the command.
const COMMIT_ANSWER: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// The kind of message that the proxy loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losing {
    Nothing,
    /// Each connection breaks instead of forwarding a COMMIT to the database.
    CommitRequests,
    /// Each connection breaks instead of forwarding the answer to a COMMIT to the server.
    CommitAnswers,
}

/// The proxy of one database.
pub struct DatabaseProxy {
    pub port: u16,
    losing: watch::Sender<Losing>,
    lost: Arc<AtomicUsize>,
}

impl DatabaseProxy {
    /// Starts a proxy of the PostgreSQL whose unix socket is in `folder`.
    pub async fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let losing = watch::Sender::new(Losing::Nothing);
        let lost = Arc::<AtomicUsize>::default();
        let connections =
            Connections { socket: folder.join(".s.PGSQL.5432"), losing: losing.subscribe(), lost: Arc::clone(&lost) };
        tokio::spawn(connections.accept(listener));
        Self { port, losing, lost }
    }

    /// Sets the kind of message that the proxy loses from now on.
    pub fn lose(&self, losing: Losing) {
        self.losing.send_replace(losing);
    }

    /// Returns the number of messages that the proxy has lost.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Connections {
    socket: PathBuf,
    losing: watch::Receiver<Losing>,
    lost: Arc<AtomicUsize>,
}

impl Connections {
    async fn accept(self, listener: TcpListener) {
        while let Ok((server, _)) = listener.accept().await {
            let connections = self.clone();
            tokio::spawn(async move {
                let (from_server, to_server) = server.into_split();
                let Ok(database) = UnixStream::connect(&connections.socket).await else { return };
                let (from_database, to_database) = database.into_split();
                // The end of one direction drops the sockets, which breaks the other direction.
                tokio::select! {
                    () = connections.forward(from_server, to_database, COMMIT_REQUEST, Losing::CommitRequests) => {}
                    () = connections.forward(from_database, to_server, COMMIT_ANSWER, Losing::CommitAnswers) => {}
                }
            });
        }
    }

    /// Forwards bytes until the connection ends. If the proxy is losing `kind`, ends before the first bytes that contain
    /// `message`.
    async fn forward(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        message: &[u8],
        kind: Losing,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let bytes = &buffer[..length];
            let contains_message = bytes.windows(message.len()).any(|window| window == message);
            if contains_message && *self.losing.borrow() == kind {
                self.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }
}
