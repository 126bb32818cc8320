//! The SQL of the outbox. Rows are written by the statements of the areas whose events they are.

use std::time::Duration;

use crate::ids::EventId;
use crate::storage::postgres::{Error, Postgres};

/// An event on its way.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Event {
    /// The row, and the message id.
    pub id: EventId,
    /// Where it goes.
    pub subject: String,
    /// JSON as it was written.
    pub payload: String,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
}

/// The oldest events that nobody is sending, claimed for `lease`: no transaction stays open while they are sent.
const CLAIM: &str = "
    WITH claimed AS (
        UPDATE outbox SET claimed_until = now() + $2 * interval '1 millisecond'
        WHERE id IN (
            SELECT id FROM outbox
            WHERE published_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
            ORDER BY created_at, id
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        )
        RETURNING id, subject, payload::text AS payload, traceparent, created_at
    )
    SELECT id, subject, payload, traceparent FROM claimed ORDER BY created_at, id";

const MARK: &str = "UPDATE outbox SET published_at = now() WHERE id = ANY($1) AND published_at IS NULL";

const RELEASE: &str = "UPDATE outbox SET claimed_until = NULL WHERE id = ANY($1) AND published_at IS NULL";

const PENDING: &str = "SELECT count(*) FROM outbox WHERE published_at IS NULL";

/// Claims up to `limit` events.
pub async fn claim(postgres: &Postgres, limit: u32, lease: Duration) -> Result<Vec<Event>, Error> {
    let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    postgres.write(sqlx::query_as(CLAIM).bind(i64::from(limit)).bind(lease)).await
}

/// Marks events that the stream holds.
pub async fn mark_published(postgres: &Postgres, ids: &[EventId]) -> Result<u64, Error> {
    postgres.execute(sqlx::query(MARK).bind(bare(ids))).await
}

/// Gives events back that were not sent, so that they need not wait for their lease to end.
pub async fn release(postgres: &Postgres, ids: &[EventId]) -> Result<u64, Error> {
    postgres.execute(sqlx::query(RELEASE).bind(bare(ids))).await
}

/// How many events the stream does not hold yet.
pub async fn pending(postgres: &Postgres) -> Result<i64, Error> {
    let rows = postgres.read(|| sqlx::query_as::<_, (i64,)>(PENDING)).await?;
    Ok(rows.first().map_or(0, |row| row.0))
}

fn bare(ids: &[EventId]) -> Vec<uuid::Uuid> {
    ids.iter().map(|id| id.0).collect()
}
