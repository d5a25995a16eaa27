//! This module keeps the health status of the server up to date with the state of the store.

use std::future::pending;
use std::time::Instant;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::rpc::Hub;
use crate::store::{Location, Store, StoreFailure, StoreState};

/// Sets the status of every service, and of the whole server, whose name is the empty string.
pub async fn set(health: &HealthReporter, status: ServingStatus) {
    for service in Hub::SERVICES.iter().chain([&""]) {
        health.set_service_status(*service, status).await;
    }
}

/// Returns the status that a server with this state of the store has. A server that can't write is not serving.
pub fn status_of(state: &StoreState) -> ServingStatus {
    match state {
        StoreState::Writable => ServingStatus::Serving,
        StoreState::Full { .. } | StoreState::Unreachable | StoreState::Failed(_) => ServingStatus::NotServing,
    }
}

/// Follows the state of the store until the store fails, and returns the failure. Sets the health status, and logs the
/// start and the end of the time in which the store can't write.
pub async fn follow(health: &HealthReporter, store: &Store, db: &Location) -> StoreFailure {
    let mut states = store.state();
    let mut full_since: Option<Instant> = None;
    let mut is_unreachable = false;
    loop {
        let state = states.borrow_and_update().clone();
        set(health, status_of(&state)).await;
        match state {
            StoreState::Writable => {
                if std::mem::take(&mut is_unreachable) {
                    tracing::warn!(%db, "the database can be written again");
                }
                if let Some(since) = full_since.take() {
                    let seconds = since.elapsed().as_secs();
                    tracing::warn!(%db, seconds, "the disk has space again: the server accepts writes");
                }
            }
            StoreState::Unreachable => {
                is_unreachable = true;
                tracing::error!(%db, "the database is locked or can't be reached: the server refuses writes meanwhile");
            }
            StoreState::Full { .. } => {
                full_since = Some(Instant::now());
                tracing::error!(%db, "the disk is full: the server refuses writes until the disk has space");
            }
            StoreState::Failed(failure) => {
                tracing::error!(%db, %failure, "the database can't be used any more: the server ends");
                return failure;
            }
        }
        if states.changed().await.is_err() {
            // The store is dropped, so the state does not change any more.
            return pending().await;
        }
    }
}
