//! This module lets one of several servers be the sweeper. A server on SQLite is alone, so it always has the role.

use std::time::Duration;

use tokio::sync::watch;

use super::{JobOptions, Store, Tx, postgres};
use crate::domain::server::Server;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// The result of a server's attempt to get or to keep the role of the sweeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleClaim {
    /// Another server has the role.
    HeldByOther,
    /// The server had the role before, and keeps it.
    Renewed,
    /// The server has taken the role. If no server swept for some time, the value is the start of that time, and the
    /// server must extend the leases that were live then.
    TakenAfter(Option<Timestamp>),
}

impl RoleClaim {
    /// A time before which no lease has ended: no server was alive, so all leases must be extended.
    pub const ALL_TIMES: Timestamp = Timestamp::from_micros(0);
}

/// Time between two renewals of the role, and between two attempts to take the role.
const RENEWAL: Duration = Duration::from_millis(300);

/// Maximum time of a reading of the database's clock. Half of it is the error of the reading.
const SLOWEST_READING: Duration = Duration::from_millis(10);

/// Maximum time for which the start of a server waits for the connection that receives notifications.
const LISTENING: Duration = Duration::from_secs(1);

impl Store {
    /// Takes or renews the role of the sweeper. A server on SQLite always has the role. If no server swept for some time,
    /// reports this time as a stall, so that the leases are extended before one of them expires.
    ///
    /// # Errors
    /// Fails if the store can't be written. The server has then lost the role.
    pub async fn claim_sweeper_role(&self) -> Result<RoleClaim> {
        let Some(server_id) = self.inner.server_id.clone() else { return Ok(RoleClaim::Renewed) };
        let claimed = self.claim_from_other_servers(server_id).await;
        if let Ok(RoleClaim::TakenAfter(Some(since))) = claimed {
            self.inner.writer.report_stall(since);
        }
        let has_role = claimed.as_ref().is_ok_and(|claim| *claim != RoleClaim::HeldByOther);
        self.inner.has_sweeper_role.send_if_modified(|before| std::mem::replace(before, has_role) != has_role);
        claimed
    }

    async fn claim_from_other_servers(&self, server_id: String) -> Result<RoleClaim> {
        let own_id = server_id.clone();
        if self.read_as_server(move |tx| postgres::roles::is_held_by_other(tx, &own_id)).await? {
            return Ok(RoleClaim::HeldByOther);
        }
        self.transact_with(JobOptions::SERVER_FIRST, move |tx| postgres::roles::claim(tx, &server_id)).await
    }

    /// Gives the role of the sweeper up, so that another server can take it at once.
    async fn resign_sweeper_role(&self) -> Result<()> {
        let Some(server_id) = self.inner.server_id.clone() else { return Ok(()) };
        self.transact_with(JobOptions::SERVER_FIRST, move |tx| postgres::roles::resign(tx, &server_id)).await
    }

    /// Takes and renews the role of the sweeper until the server shuts down, and then gives the role up. Uses the time of
    /// the machine and not the clock of the server, because the database measures how long the role lasts.
    pub async fn keep_sweeper_role(self, mut draining: watch::Receiver<bool>) {
        while self.is_shared() {
            // Ignore the failure, and try again: another server takes the role meanwhile.
            let _ = self.claim_sweeper_role().await;
            self.follow_database_clock().await;
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                _ = draining.wait_for(|draining| *draining) => break,
            }
        }
        // If this fails, the role ends a second after its last renewal.
        let _ = self.resign_sweeper_role().await;
    }

    /// Waits until the server has begun to receive the notifications of other servers, but at most for `LISTENING`.
    pub async fn until_listening(&self) {
        if self.is_shared() {
            // After the time, the server serves nevertheless: it looks for changes when it begins to listen.
            let _ = tokio::time::timeout(LISTENING, self.inner.writer.until_listening()).await;
        }
    }

    /// Returns the living servers that use the database, or None if no other server can use the database.
    ///
    /// # Errors
    /// Fails if the store can't be read.
    pub async fn list_servers(&self) -> Result<Option<Vec<Server>>> {
        if !self.is_shared() {
            return Ok(None);
        }
        self.read(postgres::servers::list).await.map(Some)
    }

    /// Tells the other servers the address at which clients reach this server.
    ///
    /// # Errors
    /// Fails if the store can't be written.
    pub async fn advertise(&self, address: String) -> Result<()> {
        let Some(server_id) = self.inner.server_id.clone() else { return Ok(()) };
        let set = move |tx: &mut dyn Tx| postgres::servers::set_address(tx, &server_id, &address);
        self.transact_with(JobOptions::SERVER_FIRST, set).await
    }

    /// Compares the clock of the server with the clock of the database, which all servers follow.
    async fn follow_database_clock(&self) {
        let asked = self.inner.clock.uptime();
        let Ok(time) = self.read_as_server(postgres::servers::read_time).await else { return };
        let answered = self.inner.clock.uptime();
        // After a slow answer, the time of the database is not known exactly.
        if answered - asked <= SLOWEST_READING {
            self.inner.clock.follow((asked + answered) / 2, time);
        }
    }

    /// Returns whether several servers can use the database.
    pub fn is_shared(&self) -> bool {
        self.inner.server_id.is_some()
    }

    /// Returns whether this server had the role of the sweeper when it claimed the role last.
    pub fn has_sweeper_role(&self) -> bool {
        *self.inner.has_sweeper_role.borrow()
    }

    /// Returns a receiver that tells whether this server has the role of the sweeper.
    pub fn sweeper_role(&self) -> watch::Receiver<bool> {
        self.inner.has_sweeper_role.subscribe()
    }
}
