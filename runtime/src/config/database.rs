//! `[database]`: the pool of PostgreSQL connections and the deadline of each step; `[database.migrations]`: how long a
//! migration may stand in the way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// Name of the environment variable that holds the URL.
    pub url_env: String,
    /// Name of the environment variable that may hold a URL past the pooler, for migrations and for LISTEN.
    pub direct_url_env: String,
    /// Whether the URL leads to a pooler that lends a connection for a transaction (PgBouncer's `pool_mode = transaction`).
    pub transaction_pooling: bool,
    pub min_connections: u32,
    pub max_connections: u32,
    /// One attempt to connect and authenticate.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// Waiting for a free connection of the pool.
    #[serde(with = "units::duration")]
    pub acquire_timeout: Duration,
    /// One query, from sending it to its last row; after it the connection is given up.
    #[serde(with = "units::duration")]
    pub query_timeout: Duration,
    /// A connection idle for longer is closed, down to `min_connections`.
    #[serde(with = "units::duration")]
    pub idle_timeout: Duration,
    /// A connection older than this is replaced.
    #[serde(with = "units::duration")]
    pub max_lifetime: Duration,
    pub migrations: Migrations,
}

/// Limits of `fraiseql-server migrate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Migrations {
    /// Waiting for a lock: everybody who uses the table queues behind a migration that waits.
    #[serde(with = "units::duration")]
    pub lock_timeout: Duration,
    /// How often a migration is tried that did not get its lock.
    pub lock_attempts: u32,
    /// One statement of a migration.
    #[serde(with = "units::duration")]
    pub statement_timeout: Duration,
    /// One statement beside which readers and writers go on: an index that is built concurrently, the validation of a
    /// constraint, a backfill in batches.
    #[serde(with = "units::duration")]
    pub online_statement_timeout: Duration,
    /// Waiting for another process that migrates the same database.
    #[serde(with = "units::duration")]
    pub turn_timeout: Duration,
}

impl Default for Migrations {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(3),
            lock_attempts: 10,
            statement_timeout: Duration::from_secs(5 * 60),
            online_statement_timeout: Duration::from_secs(60 * 60),
            turn_timeout: Duration::from_secs(60),
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url_env: "DATABASE_URL".to_owned(),
            direct_url_env: "DATABASE_DIRECT_URL".to_owned(),
            transaction_pooling: false,
            min_connections: 10,
            max_connections: 100,
            connect_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(2),
            query_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(10 * 60),
            max_lifetime: Duration::from_secs(30 * 60),
            migrations: Migrations::default(),
        }
    }
}

impl Database {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.variable_name("url_env", &self.url_env);
        checks.variable_name("direct_url_env", &self.direct_url_env);
        checks.count("max_connections", u64::from(self.max_connections), 1..=10_000);
        checks.require(
            "min_connections",
            self.min_connections,
            self.min_connections <= self.max_connections,
            &format!("at most max_connections ({})", self.max_connections),
        );
        checks.duration("connect_timeout", self.connect_timeout, "1ms", "5m");
        checks.duration("acquire_timeout", self.acquire_timeout, "1ms", "5m");
        checks.duration("query_timeout", self.query_timeout, "1ms", "1h");
        checks.duration("idle_timeout", self.idle_timeout, "1s", "1day");
        checks.duration("max_lifetime", self.max_lifetime, "1s", "1day");
    }
}

impl Migrations {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.duration("lock_timeout", self.lock_timeout, "10ms", "1m");
        checks.count("lock_attempts", u64::from(self.lock_attempts), 1..=1_000);
        checks.duration("statement_timeout", self.statement_timeout, "10ms", "1h");
        checks.duration("online_statement_timeout", self.online_statement_timeout, "10ms", "7days");
        checks.duration("turn_timeout", self.turn_timeout, "0s", "1day");
    }
}
