//! The SQL of the notifications: what is told of an event, and what became of it by each action.

use std::time::Duration;

use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::Action;
use crate::ids::EventId;
use crate::storage::postgres::{Error, Postgres};

/// What became of a notification by one action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is tried again.
    Waiting,
    /// The target took it.
    Sent,
    /// It was given up.
    Dead,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Dead => "dead",
        }
    }
}

const ENDED: &str = "
    SELECT action FROM fraiseql.notifications
    WHERE event_id = $1 AND notification = $2 AND state IN ('sent', 'dead')";

/// What ended before stays so: two workers may have had the same event.
const RECORD: &str = "
    INSERT INTO fraiseql.notifications AS known (event_id, notification, action, state, attempts, last_error)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (event_id, notification, action) DO UPDATE SET
        state = CASE known.state WHEN 'sent' THEN 'sent' ELSE excluded.state END,
        attempts = known.attempts + excluded.attempts,
        last_error = excluded.last_error,
        updated_at = now()
    RETURNING attempts";

const PRUNE: &str = "
    DELETE FROM fraiseql.notifications
    WHERE state = 'sent' AND updated_at < now() - $1 * interval '1 second'";

/// What the rule's function says of the event: recipient, subject and body; `None` when there is nothing to tell.
/// `function` was checked to be a plain name.
pub(super) async fn content(
    postgres: &Postgres,
    function: &str,
    event: &Value,
) -> Result<Option<(String, String, String)>, Error> {
    let sql =
        format!("SELECT recipient::text, subject::text, body::text FROM {function}($1::text::jsonb) LIMIT 1");
    let event = event.to_string();
    let rows = postgres.read(|| sqlx::query_as(AssertSqlSafe(sql.clone())).bind(event.clone())).await?;
    Ok(rows.into_iter().next())
}

/// The actions that are done with.
pub(super) async fn ended(
    postgres: &Postgres,
    event: EventId,
    notification: &str,
) -> Result<Vec<String>, Error> {
    let rows = postgres.read(|| sqlx::query_as::<_, (String,)>(ENDED).bind(event).bind(notification)).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Takes note of `calls` more; answers how many there were.
pub(super) async fn record(
    postgres: &Postgres,
    event: EventId,
    (notification, action): (&str, Action),
    state: State,
    calls: u32,
    error: Option<&str>,
) -> Result<u32, Error> {
    let statement = sqlx::query_as::<_, (i32,)>(RECORD)
        .bind(event)
        .bind(notification)
        .bind(action.name())
        .bind(state.name())
        .bind(i32::try_from(calls).unwrap_or(i32::MAX))
        .bind(error);
    let rows = postgres.write(statement).await?;
    Ok(rows.first().map_or(calls, |row| u32::try_from(row.0).unwrap_or_default()))
}

/// Forgets what was sent so long ago; what is dead is kept.
pub(super) async fn prune(postgres: &Postgres, older_than: Duration) -> Result<u64, Error> {
    let seconds = i64::try_from(older_than.as_secs()).unwrap_or(i64::MAX);
    postgres.execute(sqlx::query(PRUNE).bind(seconds)).await
}
