//! This module accepts connections.

use std::io;
use std::time::Duration;

use futures_util::stream;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_stream::Stream;

/// Time that the server waits after it could not accept a connection, for example because the process has no free file
/// descriptor. Without the pause, the server would try again continuously and use a whole processor.
const PAUSE: Duration = Duration::from_millis(100);

/// Returns a stream that accepts TCP connections. The stream never ends.
pub fn accept_tcp(listener: TcpListener) -> impl Stream<Item = TcpStream> {
    stream::unfold(listener, |listener| async {
        let connection = accept_with_retries(|| listener.accept()).await;
        // Ignore the error. The connection then delays small messages, but works.
        let _ = connection.set_nodelay(true);
        Some((connection, listener))
    })
}

/// Returns a stream that accepts connections to a unix socket. The stream never ends.
pub fn accept_unix(listener: UnixListener) -> impl Stream<Item = UnixStream> {
    stream::unfold(listener, |listener| async {
        let connection = accept_with_retries(|| listener.accept()).await;
        Some((connection, listener))
    })
}

/// Accepts one connection. If the system can't accept a connection, the function pauses and tries again, until a
/// connection is accepted.
async fn accept_with_retries<C, A, F>(accept: impl Fn() -> F) -> C
where
    F: Future<Output = io::Result<(C, A)>>,
{
    let mut is_paused = false;
    loop {
        match accept().await {
            Ok((connection, _)) => {
                if is_paused {
                    tracing::info!("accepting connections again");
                }
                return connection;
            }
            // The client has closed the connection before the server accepted the connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !is_paused {
                    tracing::warn!(%error, retry_ms = PAUSE.as_millis(), "can't accept connections");
                }
                is_paused = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn failed_accept_is_repeated_after_a_pause() {
        let tries = AtomicUsize::new(0);
        let start = std::time::Instant::now();
        let accepted = accept_with_retries(|| async {
            match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Err(io::ErrorKind::ConnectionAborted.into()),
                1 | 2 => Err(io::Error::other("too many open files")),
                _ => Ok(("connection", ())),
            }
        });
        assert_eq!(accepted.await, "connection");
        assert!(start.elapsed() >= 2 * PAUSE);
    }
}
