//! How far the database's replicas are behind: what is watched while much is written, as in a backfill.
//!
//! Promises: one short statement each [`PERIOD`]; a replica that is gone has no series any more. What this role may not see
//! (it needs `pg_monitor` for that) has none either. On a server that is a replica itself, the lag of those behind it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::metrics::ReplicationMetrics;
use super::postgres::{Error, Postgres};
use crate::error::chain;

/// How often the database is asked.
pub const PERIOD: Duration = Duration::from_secs(5);

/// A replica. Names of several are told apart by their process in the database.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Replica {
    /// Its `application_name`, with its process where two have the same.
    pub name: String,
    /// Of the log that it has not replayed yet.
    pub bytes: i64,
    /// Between a commit here and its replay there, seconds; 0 while nothing is written.
    pub seconds: f64,
}

/// `pid` names those that share a name; a base backup that runs is none.
const REPLICAS: &str = "
    SELECT CASE WHEN count(*) OVER (PARTITION BY application_name) > 1 THEN application_name || ' ' || pid
               ELSE application_name END AS name,
           greatest(pg_wal_lsn_diff(
               CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
               replay_lsn), 0)::bigint AS bytes,
           coalesce(extract(epoch FROM replay_lag), 0)::float8 AS seconds
    FROM pg_stat_replication
    WHERE replay_lsn IS NOT NULL AND state <> 'backup'
    ORDER BY name";

/// The replicas that are connected now.
///
/// # Errors
/// When the database fails.
pub async fn replicas(postgres: &Postgres) -> Result<Vec<Replica>, Error> {
    postgres.read(|| sqlx::query_as(REPLICAS)).await
}

/// Keeps the series up to date. Runs until `cancel`.
pub async fn measure(postgres: Postgres, metrics: ReplicationMetrics, cancel: CancellationToken) {
    loop {
        match replicas(&postgres).await {
            Ok(replicas) => metrics.set(&replicas),
            // What was seen last says nothing of now.
            Err(error) => {
                metrics.set(&[]);
                tracing::debug!(error = %chain(&error), "could not ask for the replicas");
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}
