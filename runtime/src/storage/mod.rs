//! The stores that the runtime talks to, each behind a handle that is cheap to clone.
//!
//! Every call has a deadline of its own, also when the peer is silent and never closes the connection. A handle can
//! be made while its server is away; it connects when the server is there. What a caller may conclude from an error
//! is in the error's [`ErrorKind`](crate::error::ErrorKind).
//! Absent on purpose: SQL, scripts and subjects, which belong to the areas that own the data.

pub mod health;
pub mod metrics;
pub mod nats;
pub mod postgres;
pub mod redis;
pub mod spool;

use std::time::Duration;

use crate::error::{Classify, ErrorKind};

/// A migration that waits for another process to finish is given up after this time.
const MIGRATION_LOCK_TIMEOUT: &str = "SET lock_timeout = '60s'";

/// Errors of [`migrate`].
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database does not take a connection.
    #[error("could not reach the database that is to be migrated")]
    Connect(#[source] postgres::Error),
    /// A migration failed; those before it are in place.
    #[error("could not migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

impl Classify for MigrateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Migrate(_) => ErrorKind::Internal,
        }
    }
}

/// Applies the migrations that the database does not have yet. Two processes at the same time wait for each other
/// (an advisory lock); forward only.
pub async fn migrate(url: &str, connect_timeout: Duration) -> Result<(), MigrateError> {
    let mut connection =
        postgres::connect_alone(url, connect_timeout).await.map_err(MigrateError::Connect)?;
    sqlx::query(MIGRATION_LOCK_TIMEOUT)
        .execute(&mut connection)
        .await
        .map_err(|error| MigrateError::Connect(postgres::Error::Statement(error)))?;
    sqlx::migrate!().run(&mut connection).await.map_err(MigrateError::Migrate)
}
