//! The SQL of rollouts. A step, what it does to the flag, both histories and the word to all servers are one statement and
//! so one transaction; it is made only of the version that was looked at, and of a leader only while its token is the last.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::FromRow;

use super::machine::{Change, FlagChange, Rollout, Status, Step, percentage, phase_of, word};
use super::{Error, Plan};
use crate::error::ErrorKind;
use crate::storage::postgres::{self, Postgres, Statement};

/// Whoever has changed a rollout says so here, with its feature.
pub const CHANNEL: &str = "fraiseql_rollouts";

/// Rows of the history that are answered.
const HISTORY_MAX: i64 = 200;

const ALL: &str = "SELECT feature, plan, phase, percentage, status, reason, step_to, step_began, step_until, version, token, \
     changed_at, changed_by, now() AS now FROM fraiseql.rollouts WHERE $1::text IS NULL OR feature = $1 ORDER BY feature";

/// The row `changed`, then what follows from it.
/// `$1` feature, `$2` plan, `$3` token, `$4` version, `$5` to `$11` what it is then, `$12` actor, `$13` event, `$14` to `$16`
/// what happens to the flag. The row of the leader is locked against the next leader until this is done.
macro_rules! statement {
    ($changed:literal) => {
        concat!(
            "WITH fence AS MATERIALIZED ( \
                SELECT one FROM fraiseql.rollout_leader WHERE $3::bigint IS NULL OR token = $3 FOR SHARE), \
             changed AS (",
            $changed,
            " RETURNING r.*), \
             old AS (SELECT * FROM fraiseql.flags WHERE name = $1 AND $14::text <> 'keep' FOR UPDATE), \
             flag AS ( \
                INSERT INTO fraiseql.flags AS f (name, percentage, user_allowlist, changed_by) \
                SELECT $1, CASE $14 WHEN 'percentage' THEN $15::smallint ELSE 0 END, \
                    CASE $14 WHEN 'users' THEN $16::text[] ELSE '{}' END, $12 \
                FROM changed LEFT JOIN old ON true WHERE $14 <> 'keep' \
                ON CONFLICT (name) DO UPDATE SET \
                    enabled = f.enabled AND $14 <> 'off', \
                    percentage = CASE $14 WHEN 'percentage' THEN $15::smallint WHEN 'off' THEN 0 ELSE f.percentage END, \
                    user_allowlist = CASE $14 WHEN 'users' THEN $16::text[] WHEN 'off' THEN '{}' ELSE f.user_allowlist END, \
                    changed_by = $12, changed_at = now(), version = nextval('fraiseql.versions') \
                RETURNING *), \
             kept AS ( \
                INSERT INTO fraiseql.flag_history (name, actor, before, after) \
                SELECT flag.name, $12, to_jsonb(old), to_jsonb(flag) FROM flag LEFT JOIN old ON true), \
             told AS ( \
                INSERT INTO fraiseql.rollout_history (feature, actor, event, phase, percentage, status, reason) \
                SELECT feature, $12, $13, phase, percentage, status, reason FROM changed) \
             SELECT feature, plan, phase, percentage, status, reason, step_to, step_began, step_until, version, token, \
                changed_at, changed_by, now() AS now, pg_notify('fraiseql_rollouts', feature)::text AS one, \
                (SELECT pg_notify('fraiseql_flags', name)::text FROM flag) AS other \
             FROM changed"
        )
    };
}

const CHANGE: &str = statement!(
    "UPDATE fraiseql.rollouts AS r SET plan = $2::text::jsonb, phase = $5, percentage = $6, status = $7, reason = $8, \
        step_to = $9, step_began = $10, step_until = $11, token = coalesce($3, r.token), changed_by = $12, \
        changed_at = now(), version = nextval('fraiseql.versions') \
     WHERE r.feature = $1 AND r.version = $4::bigint AND EXISTS (SELECT FROM fence)"
);

const START: &str = statement!(
    "INSERT INTO fraiseql.rollouts AS r (feature, plan, phase, percentage, status, reason, step_to, step_began, \
        step_until, changed_by) \
     SELECT $1, $2::text::jsonb, $5, $6, $7, $8, $9, $10, $11, $12 FROM fence WHERE $4::bigint IS NULL \
     ON CONFLICT (feature) DO UPDATE SET plan = excluded.plan, phase = excluded.phase, percentage = excluded.percentage, \
        status = excluded.status, reason = excluded.reason, step_to = excluded.step_to, step_began = excluded.step_began, \
        step_until = excluded.step_until, changed_by = excluded.changed_by, changed_at = now(), \
        version = nextval('fraiseql.versions') \
     WHERE r.status IN ('rolled_back', 'complete')"
);

const HISTORY: &str = "SELECT id, at, actor, event, phase, percentage, status, reason FROM fraiseql.rollout_history \
     WHERE feature = $1 ORDER BY id DESC LIMIT $2";

const TOKEN: &str = "SELECT token, holder, since FROM fraiseql.rollout_leader";

/// A rollout as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The rollout.
    pub rollout: Rollout,
    /// Differs after each change.
    pub version: i64,
    /// Of the leader that took the last step.
    pub token: i64,
    /// When it was changed last.
    pub changed_at: DateTime<Utc>,
    /// By whom.
    pub changed_by: String,
    /// The database's time when it was read: every time of a rollout is the database's.
    pub now: DateTime<Utc>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct Event {
    /// In their order.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What.
    pub event: String,
    /// The phase after it.
    pub phase: String,
    /// The percentage that the phase had reached.
    pub percentage: i16,
    /// The status after it.
    pub status: String,
    /// Why.
    pub reason: String,
}

/// Who leads, or led last.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct Leader {
    /// Grows with each leader.
    pub token: i64,
    /// Its name.
    pub holder: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct Row {
    plan: Value,
    phase: String,
    percentage: i16,
    status: String,
    reason: String,
    step_to: Option<i16>,
    step_began: Option<DateTime<Utc>>,
    step_until: Option<DateTime<Utc>>,
    version: i64,
    token: i64,
    changed_at: DateTime<Utc>,
    changed_by: String,
    now: DateTime<Utc>,
}

impl TryFrom<Row> for Stored {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let unread =
            |what: String| Error::of_kind(ErrorKind::Internal, format!("a rollout cannot be read: {what}"));
        let plan: Plan = serde_json::from_value(row.plan).map_err(|error| unread(error.to_string()))?;
        let small = |number: i16| u8::try_from(number).map_err(|error| unread(error.to_string()));
        let phase = phase_of(&row.phase, small(row.percentage)?)
            .ok_or_else(|| unread(format!("phase {}", row.phase)))?;
        let status = Status::ALL.into_iter().find(|status| status.word() == row.status);
        let status = status.ok_or_else(|| unread(format!("status {}", row.status)))?;
        let step = match (row.step_to, row.step_began, row.step_until) {
            (Some(to), Some(began), Some(until)) => Some(Step { to: small(to)?, began, until }),
            _ => None,
        };
        Ok(Self {
            rollout: Rollout { plan, phase, status, reason: row.reason, step },
            version: row.version,
            token: row.token,
            changed_at: row.changed_at,
            changed_by: row.changed_by,
            now: row.now,
        })
    }
}

/// The rollouts of a database.
#[derive(Clone)]
pub struct RolloutStore {
    postgres: Postgres,
}

impl RolloutStore {
    /// Those of this database.
    pub const fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    /// Every rollout, by feature. One that cannot be read is told in the log and left out.
    ///
    /// # Errors
    /// The database's own.
    pub async fn all(&self) -> Result<Vec<Stored>, postgres::Error> {
        let rows: Vec<Row> = self.postgres.read(|| sqlx::query_as(ALL).bind(None::<String>)).await?;
        let read = |row: Row| match Stored::try_from(row) {
            Ok(stored) => Some(stored),
            Err(error) => {
                tracing::error!(%error, "a rollout is left alone");
                None
            }
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// One rollout.
    ///
    /// # Errors
    /// When there is none, or the database cannot be asked.
    pub async fn get(&self, feature: &str) -> Result<Stored, Error> {
        let rows: Vec<Row> =
            self.postgres.read(|| sqlx::query_as(ALL).bind(Some(feature.to_owned()))).await?;
        rows.into_iter().next().ok_or_else(|| Error::unknown(feature))?.try_into()
    }

    /// Begins a rollout; `None` when there is one that is neither over nor rolled back.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn start(&self, change: &Change, actor: &str) -> Result<Option<Stored>, Error> {
        let rows = self.postgres.write(bound(START, change, None, None, actor)?).await?;
        Self::changed(rows, change, actor)
    }

    /// Makes a change of the version that was looked at. `token` is that of a leader, `None` of whoever else asks. `None` when
    /// the version is another by now, or the leader is.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn change(
        &self,
        version: i64,
        change: &Change,
        token: Option<i64>,
        actor: &str,
    ) -> Result<Option<Stored>, Error> {
        let rows = self.postgres.write(bound(CHANGE, change, Some(version), token, actor)?).await?;
        Self::changed(rows, change, actor)
    }

    fn changed(rows: Vec<Row>, change: &Change, actor: &str) -> Result<Option<Stored>, Error> {
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        let Rollout { plan, phase, status, reason, .. } = &change.next;
        let (feature, event, phase, percentage) =
            (&plan.flag, change.event, word(*phase), percentage(*phase));
        let status = status.word();
        if matches!(event, "rolled_back" | "paused") {
            tracing::warn!(feature, event, phase, percentage, status, reason, actor, "rollout");
        } else {
            tracing::info!(feature, event, phase, percentage, status, reason, actor, "rollout");
        }
        Stored::try_from(row).map(Some)
    }

    /// What happened to a rollout, the last event first, at most 200.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn history(&self, feature: &str) -> Result<Vec<Event>, Error> {
        let statement = || sqlx::query_as(HISTORY).bind(feature.to_owned()).bind(HISTORY_MAX);
        Ok(self.postgres.read(statement).await?)
    }

    /// Who leads, or led last.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn leader(&self) -> Result<Leader, Error> {
        let rows: Vec<Leader> = self.postgres.read(|| sqlx::query_as(TOKEN)).await?;
        rows.into_iter()
            .next()
            .ok_or_else(|| Error::of_kind(ErrorKind::Internal, "fraiseql.rollout_leader has no row"))
    }
}

fn bound(
    sql: &'static str,
    change: &Change,
    version: Option<i64>,
    token: Option<i64>,
    actor: &str,
) -> Result<Statement<'static, Row>, Error> {
    let Rollout { plan, phase, status, reason, step } = &change.next;
    let text = serde_json::to_string(plan)
        .map_err(|error| Error::of_kind(ErrorKind::Internal, error.to_string()))?;
    let (kind, percentage_then, users) = match &change.flag {
        FlagChange::Keep => ("keep", 0, Vec::new()),
        FlagChange::Users(users) => ("users", 0, users.clone()),
        FlagChange::Percentage(percentage) => ("percentage", i16::from(*percentage), Vec::new()),
        FlagChange::Off => ("off", 0, Vec::new()),
    };
    Ok(sqlx::query_as(sql)
        .bind(plan.flag.clone())
        .bind(text)
        .bind(token)
        .bind(version)
        .bind(word(*phase))
        .bind(i16::from(percentage(*phase)))
        .bind(status.word())
        .bind(reason.clone())
        .bind(step.map(|step| i16::from(step.to)))
        .bind(step.map(|step| step.began))
        .bind(step.map(|step| step.until))
        .bind(actor.to_owned())
        .bind(change.event)
        .bind(kind)
        .bind(percentage_then)
        .bind(users))
}
