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

/// Values as they are stored; 200 bytes are for what is the same in each row, its header and its places in the indexes.
const PENDING: &str = "
    SELECT count(*) AS events, coalesce(sum(pg_column_size(payload) + pg_column_size(subject) + 200), 0)::bigint AS bytes
    FROM outbox WHERE published_at IS NULL";

/// What waits for the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Pending {
    /// Events.
    pub events: i64,
    /// What they take of the disk, about.
    pub bytes: i64,
}

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

/// What the stream does not hold yet. Reads all of it, published events none.
pub async fn pending(postgres: &Postgres) -> Result<Pending, Error> {
    let rows = postgres.read(|| sqlx::query_as::<_, Pending>(PENDING)).await?;
    // None is not "nothing waits", which would open a gate.
    rows.first().copied().ok_or(Error::Statement(sqlx::Error::RowNotFound))
}

fn bare(ids: &[EventId]) -> Vec<uuid::Uuid> {
    ids.iter().map(|id| id.0).collect()
}
