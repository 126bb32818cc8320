//! The SQL that tells which migrations a database has.

use async_trait::async_trait;

use super::{AppliedMigrations, MigrationError};
use crate::error::chain;
use crate::storage::postgres::Postgres;

/// `1` is what `$1` is without its number's leading zeros and its end: `0003_more.sql`, `3_more`, `3`.
const IS_APPLIED: &str = "
    SELECT count(*) FROM _sqlx_migrations
    WHERE success AND version = substring($1 FROM '^\\d{1,18}')::bigint
        AND (regexp_replace($1, '^\\d+_?|\\.sql$', '', 'g') IN ('', replace(description, ' ', '_')))";

/// What sqlx has noted in the database.
pub struct Applied {
    /// Where it is.
    pub postgres: Postgres,
}

#[async_trait]
impl AppliedMigrations for Applied {
    async fn is_applied(&self, migration: &str) -> Result<bool, MigrationError> {
        let rows = self.postgres.read(|| sqlx::query_as::<_, (i64,)>(IS_APPLIED).bind(migration.to_owned()));
        let rows = rows.await.map_err(|error| MigrationError::Metrics(chain(&error)))?;
        Ok(rows.first().is_some_and(|(count,)| *count > 0))
    }
}
