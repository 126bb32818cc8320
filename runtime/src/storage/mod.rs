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

use sqlx::migrate::Migrator;

use crate::error::{Classify, ErrorKind};

/// The files in `fixtures/schemas/ecommerce/migrations`, as they were when this was built.
static MIGRATIONS: Migrator = sqlx::migrate!("../fixtures/schemas/ecommerce/migrations");

/// A migration that waits for another process to finish is given up after this time.
const MIGRATION_LOCK_TIMEOUT: &str = "SET lock_timeout = '60s'";

/// Errors of [`migrate`].
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database does not take a connection.
    #[error("could not reach the database that is to be migrated")]
    Connect(#[source] postgres::Error),
    /// The database refused a statement of a migration. It left nothing behind; those before it are in place.
    #[error("migration {file} failed, those before it are in place")]
    Migration {
        /// Its name in the folder of migrations.
        file: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The database has a migration under this name whose text was another one.
    #[error("migration {file} was changed after the database had it: add a new one instead")]
    Changed {
        /// Its name in the folder of migrations.
        file: String,
    },
    /// The list of migrations could not be read or does not fit the database's.
    #[error("could not migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

impl Classify for MigrateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Migration { .. } | Self::Changed { .. } | Self::Migrate(_) => ErrorKind::Internal,
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
    MIGRATIONS.run(&mut connection).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::ExecuteMigration(source, version) => {
            MigrateError::Migration { file: file_of(version), source }
        }
        sqlx::migrate::MigrateError::VersionMismatch(version) => {
            MigrateError::Changed { file: file_of(version) }
        }
        error => MigrateError::Migrate(error),
    })
}

/// The name of the file that a version was read from.
fn file_of(version: i64) -> String {
    let known = MIGRATIONS.iter().find(|migration| migration.version == version);
    let words = known.map(|migration| migration.description.replace(' ', "_")).unwrap_or_default();
    format!("{version}_{words}.sql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_is_named_as_its_file_is() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/schemas/ecommerce/migrations");
        assert!(MIGRATIONS.iter().count() > 0);
        for migration in MIGRATIONS.iter() {
            let file = folder.join(file_of(migration.version));
            assert!(file.is_file(), "{}", file.display());
        }
    }
}
