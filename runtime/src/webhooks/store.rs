//! The SQL of webhooks: what came, once, and what became of it. Each step is one statement, and so one transaction.

use std::time::Duration;

use sqlx::FromRow;

use super::event::Event;
use crate::config::webhooks::Provider;
use crate::ids::WebhookEventId;
use crate::storage::postgres::{Error, Postgres};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Somebody is at it, or it is tried again.
    Waiting,
    /// Its handler is done.
    Done,
    /// There was nothing to do.
    Ignored,
    /// It was given up.
    Dead,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Done, Self::Ignored, Self::Dead];

    /// As the table, answers and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Ignored => "ignored",
            Self::Dead => "dead",
        }
    }

    fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|state| state.name() == name).unwrap_or(Self::Waiting)
    }
}

/// An event that somebody has to handle within the lease.
#[derive(Debug, FromRow)]
pub(super) struct Due {
    pub(super) id: WebhookEventId,
    pub(super) webhook: String,
    pub(super) event_type: String,
    pub(super) event_key: String,
    pub(super) payload: String,
    /// With this one.
    pub(super) attempts: i32,
}

/// `$7` seconds belong to whoever made the row, and to whoever is sent again what was given up or ignored: someone wants that
/// it is tried with what is there now.
const CLAIM: &str = "
    WITH claimed AS (
        INSERT INTO fraiseql.webhook_events AS known
            (id, webhook, provider, event_type, event_key, payload, state, attempts, next_attempt_at)
        VALUES ($1, $2, $3, $4, $5, $6::text::json, 'waiting', 1, now() + $7 * interval '1 second')
        ON CONFLICT (id) DO UPDATE SET
            state = 'waiting', attempts = 1, last_error = NULL, next_attempt_at = excluded.next_attempt_at,
            updated_at = now()
            WHERE known.state IN ('ignored', 'dead')
        RETURNING state
    )
    SELECT true, state FROM claimed
    UNION ALL
    SELECT false, state FROM fraiseql.webhook_events WHERE id = $1 AND NOT EXISTS (SELECT FROM claimed)";

/// Who lost its lease may still say that it is done, and nothing else.
const SETTLE: &str = "
    UPDATE fraiseql.webhook_events
    SET state = $2, last_error = $3, next_attempt_at = now() + $4 * interval '1 second', updated_at = now()
    WHERE id = $1 AND state = 'waiting' AND (attempts = $5 OR $2 = 'done')";

const DUE: &str = "
    UPDATE fraiseql.webhook_events AS due
    SET attempts = attempts + 1, next_attempt_at = now() + $2 * interval '1 second', updated_at = now()
    FROM (
        SELECT id FROM fraiseql.webhook_events
        WHERE state = 'waiting' AND next_attempt_at <= now() AND webhook = ANY ($1)
        ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ) AS found
    WHERE due.id = found.id
    RETURNING due.id, webhook, event_type, event_key, payload::text AS payload, attempts";

const WAITING: &str = "SELECT count(*) FROM fraiseql.webhook_events WHERE state = 'waiting'";

const PRUNE: &str = "
    DELETE FROM fraiseql.webhook_events
    WHERE webhook = $1 AND state IN ('done', 'ignored') AND updated_at < now() - $2 * interval '1 second'";

/// Keeps an event. `Ok(None)`: it is ours to handle within the lease; else what it came to before.
pub(super) async fn claim(
    postgres: &Postgres,
    (webhook, provider): (&str, Provider),
    event: &Event,
    body: &str,
    lease: Duration,
) -> Result<Option<State>, Error> {
    let statement = sqlx::query_as::<_, (bool, String)>(CLAIM)
        .bind(event.id)
        .bind(webhook)
        .bind(provider.name())
        .bind(&event.kind)
        .bind(&event.key)
        .bind(body)
        .bind(lease.as_secs_f64());
    let rows = postgres.write(statement).await?;
    Ok(match rows.first() {
        Some((true, _)) => None,
        Some((false, state)) => Some(State::of(state)),
        // Another delivery made the row since this statement began.
        None => Some(State::Waiting),
    })
}

/// Takes note of what attempt number `attempts` came to; what waits is tried again after `wait`.
pub(super) async fn settle(
    postgres: &Postgres,
    id: WebhookEventId,
    attempts: i32,
    state: State,
    (reason, wait): (Option<&str>, Duration),
) -> Result<(), Error> {
    let statement =
        sqlx::query(SETTLE).bind(id).bind(state.name()).bind(reason).bind(wait.as_secs_f64()).bind(attempts);
    postgres.execute(statement).await.map(drop)
}

/// Takes what is to be tried again now.
pub(super) async fn due(
    postgres: &Postgres,
    webhooks: &[String],
    lease: Duration,
    most: i64,
) -> Result<Vec<Due>, Error> {
    let statement = sqlx::query_as::<_, Due>(DUE).bind(webhooks).bind(lease.as_secs_f64()).bind(most);
    postgres.write(statement).await
}

/// How many are not done with.
pub(super) async fn waiting(postgres: &Postgres) -> Result<i64, Error> {
    let rows = postgres.read(|| sqlx::query_as::<_, (i64,)>(WAITING)).await?;
    Ok(rows.first().map_or(0, |row| row.0))
}

/// Forgets what was done with so long ago.
pub(super) async fn prune(postgres: &Postgres, webhook: &str, older_than: Duration) -> Result<u64, Error> {
    postgres.execute(sqlx::query(PRUNE).bind(webhook).bind(older_than.as_secs_f64())).await
}
