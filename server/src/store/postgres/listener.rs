//! This module receives what other servers have committed, and notifies the waiters and watchers of this server.
//!
//! A notification can get lost with its connection. Therefore, the listener first listens, then looks at the newest
//! position, and then wakes everybody, each time that it connects. If it hears nothing for a second, it looks again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client};

use super::address::PostgresAddress;
use super::hosts::ConnectError;
use super::payload::Payload;
use crate::store::Signal;
use crate::store::notifications::Notifications;

/// Time without a notification after which the listener looks at the newest position.
const SILENCE: Duration = Duration::from_secs(1);

/// Time between two attempts to connect.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(100);

/// Receives the notifications of other servers until the future is dropped.
pub(super) async fn run(address: PostgresAddress, server_id: String, notifications: Arc<Notifications>) {
    let listener = Listener { address, server_id, notifications };
    loop {
        if let Err(error) = listener.listen().await {
            tracing::debug!(%error, "the connection for notifications is lost");
        }
        tokio::time::sleep(RECONNECT_INTERVAL).await;
    }
}

struct Listener {
    address: PostgresAddress,
    server_id: String,
    notifications: Arc<Notifications>,
}

impl Listener {
    /// Connects, and receives notifications until the connection is lost.
    async fn listen(&self) -> Result<(), ConnectError> {
        let (client, mut connection) = self.address.connect().await?;
        let (payloads, received) = mpsc::unbounded_channel();
        let driven = async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message? {
                    // The receiver lives as long as this future.
                    let _ = payloads.send(notification.payload().to_owned());
                }
            }
            Ok(())
        };
        let result = tokio::select! {
            result = driven => result,
            result = self.receive(client, received) => result,
        };
        result.map_err(ConnectError::Failed)
    }

    async fn receive(
        &self,
        client: Client,
        mut received: mpsc::UnboundedReceiver<String>,
    ) -> Result<(), tokio_postgres::Error> {
        client.batch_execute(&format!("LISTEN \"{}\"", self.address.schema())).await?;
        self.look(&client).await?;
        self.notifications.signal(&[Signal::Anything]);
        self.notifications.set_listening();
        loop {
            match tokio::time::timeout(SILENCE, received.recv()).await {
                Ok(None) => return Ok(()),
                Ok(Some(payload)) => self.handle(&payload),
                Err(_) => {
                    if self.look(&client).await? {
                        self.notifications.signal(&[Signal::Anything]);
                    }
                }
            }
        }
    }

    /// Reads the newest position, and notifies the watchers. Returns whether the position was not known.
    async fn look(&self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        let row = client.query_one("SELECT last_position FROM counters", &[]).await?;
        Ok(self.notifications.notify_growth(row.try_get(0)?))
    }

    fn handle(&self, payload: &str) {
        let Some(payload) = Payload::decode(payload) else { return };
        if payload.server_id != self.server_id {
            let position = payload.position;
            self.notifications.signal(&payload.into_signals());
            self.notifications.notify_growth(position);
        }
    }
}
