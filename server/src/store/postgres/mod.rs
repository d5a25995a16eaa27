//! This module contains all code that is specific to PostgreSQL. Several servers can use one PostgreSQL database.

mod address;
mod batch;
mod connection;
mod errors;
mod hosts;
mod listener;
mod open;
mod payload;
#[cfg(test)]
pub mod query_plans;
mod readers;
pub(super) mod roles;
mod schema;
mod sent;
pub(super) mod servers;
mod temporary;
mod tls;
mod values;
mod writer;

pub use self::address::PostgresAddress;
use self::connection::Connection;
pub use self::open::migrate;
pub(super) use self::open::{Database, open};
pub use self::schema::Migrated;
pub use self::temporary::TemporaryDatabase;
use super::body_tx::BodyTx;

/// Represents the open transaction of a connection to PostgreSQL.
type PostgresTx<'a> = BodyTx<'a, &'a mut Connection>;
