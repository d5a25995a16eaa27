//! This module distributes the calls of a client over connections. A server allows a limited number of open calls per
//! connection (1,024 by default) and makes further calls wait, so streams and calls with a `wait` have connections of
//! their own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::service_fn;

/// Maximum number of streams and calls with a `wait` on one connection. The number is far below the server's limit, and
/// the connection can buffer the unread bytes of this number of streams.
const SLOTS_PER_CONNECTION: usize = 100;

/// The address of a server, with the settings of the connections.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub endpoint: Endpoint,
    /// The path of the server's Unix socket, or None if the server listens on a TCP port.
    pub socket: Option<PathBuf>,
}

impl Target {
    /// Returns a connection to the server. Fails if the server does not answer.
    pub async fn connect(&self) -> Result<Channel, Error> {
        match &self.socket {
            Some(path) => self.endpoint.connect_with_connector(unix_socket_connector(path.clone())).await,
            None => self.endpoint.connect().await,
        }
    }

    /// Returns a connection that opens when the first call is made.
    pub fn connect_lazy(&self) -> Channel {
        match &self.socket {
            Some(path) => self.endpoint.connect_with_connector_lazy(unix_socket_connector(path.clone())),
            None => self.endpoint.connect_lazy(),
        }
    }
}

fn unix_socket_connector(
    path: PathBuf,
) -> impl tower::Service<Uri, Response = TokioIo<UnixStream>, Error = std::io::Error, Future: Send> + Send + 'static {
    service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    })
}

/// The connections of a client. Clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    /// The connection for calls that the server answers immediately.
    first: Channel,
    target: Target,
    /// The connections for streams and calls with a `wait`.
    held: Arc<Mutex<Vec<HeldConnection>>>,
}

#[derive(Debug, Clone)]
struct HeldConnection {
    channel: Channel,
    slots: Arc<Semaphore>,
}

/// A connection for one call. Dropping the value returns the call's slot on the connection.
#[derive(Debug)]
pub(crate) struct CallConnection {
    pub channel: Channel,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Connections {
    /// Returns the connections of a new client, whose first connection is `first`.
    pub fn new(first: Channel, target: Target) -> Self {
        Self { first, target, held: Arc::default() }
    }

    /// Returns the connection for a call that the server answers immediately.
    pub fn for_call(&self) -> CallConnection {
        CallConnection { channel: self.first.clone(), _slot: None }
    }

    /// Returns a connection for a stream or for a call with a `wait`. If all slots on the open connections are taken,
    /// the function opens another connection.
    pub fn for_held_call(&self) -> CallConnection {
        // Ignore lock poisoning. Each change of the list is one step, so a panic can't leave the list partially
        // updated.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            for connection in held.iter() {
                if let Ok(slot) = Arc::clone(&connection.slots).try_acquire_owned() {
                    return CallConnection { channel: connection.channel.clone(), _slot: Some(slot) };
                }
            }
            let slots = Arc::new(Semaphore::new(SLOTS_PER_CONNECTION));
            held.push(HeldConnection { channel: self.target.connect_lazy(), slots });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_connections() -> Connections {
        let target = Target { endpoint: Endpoint::from_static("http://127.0.0.1:1"), socket: None };
        Connections::new(target.connect_lazy(), target)
    }

    #[tokio::test]
    async fn each_connection_has_a_limited_number_of_held_calls() {
        let connections = new_connections();
        let open = || connections.held.lock().unwrap().len();
        drop(connections.for_call());
        assert_eq!(open(), 0);
        let mut calls: Vec<_> = (0..SLOTS_PER_CONNECTION).map(|_| connections.for_held_call()).collect();
        assert_eq!(open(), 1);
        calls.push(connections.clone().for_held_call());
        assert_eq!(open(), 2);
        calls.clear();
        for _ in 0..10 * SLOTS_PER_CONNECTION {
            connections.for_held_call();
        }
        assert_eq!(open(), 2, "the slots are used again");
    }
}
