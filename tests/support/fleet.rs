//! Several servers on one PostgreSQL database, and a client that uses any of them.

use std::time::Duration;

use runhub_client::{Client, Error};

use super::binary::Binary;

/// Servers on one PostgreSQL database. Each of them keeps its address when it is started again.
pub struct Fleet {
    pub addresses: Vec<String>,
    url: String,
    /// The servers. The value is None while a server is dead.
    servers: Vec<Option<Binary>>,
}

impl Fleet {
    /// Starts `count` servers on the database with the URL.
    pub fn start(count: usize, url: String) -> Self {
        let servers: Vec<Binary> = (0..count).map(|_| Binary::start_on_store("127.0.0.1:0", &url)).collect();
        let addresses = servers.iter().map(|server| server.address.clone()).collect();
        Self { addresses, url, servers: servers.into_iter().map(Some).collect() }
    }

    /// Kills a server as a crash would.
    pub fn kill(&mut self, at: usize) {
        self.servers[at].take().unwrap().kill();
    }

    /// Starts a killed server, and waits until the server listens.
    pub fn start_again(&mut self, at: usize) {
        self.servers[at] = Some(Binary::start_on_store(&self.addresses[at], &self.url));
    }

    pub fn pid(&self, at: usize) -> u32 {
        self.servers[at].as_ref().unwrap().pid()
    }

    pub async fn connect(&self, at: usize) -> Client {
        self.servers[at].as_ref().unwrap().connect().await
    }

    /// Returns a client with connections of its own, which begins with the server `first`.
    pub fn failover_client(&self, first: usize) -> FailoverClient {
        let clients = self.addresses.iter().map(|address| Client::connect_lazy(address).unwrap().without_retry());
        FailoverClient::new(clients.collect(), first)
    }
}

/// Time between a failed call and the next call.
const PAUSE: Duration = Duration::from_millis(10);

/// A client of several servers. The client uses one server until a call fails, and then the next server.
pub struct FailoverClient {
    clients: Vec<Client>,
    current: usize,
}

impl FailoverClient {
    /// Creates a client that begins with the server `first`, counted modulo the number of servers.
    pub fn new(clients: Vec<Client>, first: usize) -> Self {
        Self { current: first % clients.len(), clients }
    }

    /// Lets the next call go to the next server.
    pub fn move_to_next(&mut self) {
        self.current = (self.current + 1) % self.clients.len();
    }

    /// Makes a call, such as `Client::append_events`. If the call fails with a temporary error, moves to the next server and
    /// returns None. Then the server may or may not have done what the request asks for.
    ///
    /// # Panics
    /// Panics if the server refuses the request.
    pub async fn call_once<R, T>(
        &mut self,
        call: impl AsyncFnOnce(&Client, R) -> Result<T, Error>,
        request: R,
    ) -> Option<T> {
        match call(&self.clients[self.current], request).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                assert!(error.is_temporary(), "{error}");
                self.move_to_next();
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }
}
