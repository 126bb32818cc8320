//! The SQL of flags. A change, its row in the history and the word to all servers are one statement and so one transaction.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::FromRow;

use super::{Error, FeatureFlag, check};
use crate::error::ErrorKind;
use crate::storage::postgres::Postgres;

/// Whoever has changed a flag says so here, with its name.
pub const CHANNEL: &str = "fraiseql_flags";

/// Flags at most: every server reads all of them, and each has its own series.
pub const FLAGS_MAX: i64 = 1_000;

/// Rows of the history that are answered.
const HISTORY_MAX: i64 = 200;

/// How often a change is begun anew that others were faster than.
const ATTEMPTS: u32 = 16;

macro_rules! columns {
    () => {
        "name, description, enabled, percentage, user_allowlist, user_denylist, start_time, end_time, environments, \
         version, changed_at, changed_by"
    };
}

const ALL: &str = concat!("SELECT ", columns!(), " FROM fraiseql.flags ORDER BY name");
const ONE: &str = concat!("SELECT ", columns!(), " FROM fraiseql.flags WHERE name = $1");

/// `$11`: the version that is expected: null for any, 0 for none. The row is locked before it is looked at, so that the
/// history has what was there.
const PUT: &str = concat!(
    "WITH old AS (SELECT * FROM fraiseql.flags WHERE name = $1 FOR UPDATE), \
     changed AS ( \
        INSERT INTO fraiseql.flags AS f (name, description, enabled, percentage, user_allowlist, user_denylist, \
            start_time, end_time, environments, changed_by) \
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM (SELECT) one LEFT JOIN old ON true \
        WHERE ($11::bigint IS NULL OR coalesce(old.version, 0) = $11) \
            AND (old.name IS NOT NULL OR (SELECT count(*) FROM fraiseql.flags) < $12) \
        ON CONFLICT (name) DO UPDATE SET description = $2, enabled = $3, percentage = $4, user_allowlist = $5, \
            user_denylist = $6, start_time = $7, end_time = $8, environments = $9, changed_by = $10, \
            changed_at = now(), version = nextval('fraiseql.versions') \
        WHERE $11::bigint IS NULL OR f.version = $11 \
        RETURNING *), \
     kept AS ( \
        INSERT INTO fraiseql.flag_history (name, actor, before, after) \
        SELECT changed.name, $10, to_jsonb(old), to_jsonb(changed) FROM changed LEFT JOIN old ON true) \
     SELECT ",
    columns!(),
    ", pg_notify('fraiseql_flags', name)::text FROM changed"
);

const DELETE: &str = "WITH gone AS ( \
        DELETE FROM fraiseql.flags WHERE name = $1 AND ($2::bigint IS NULL OR version = $2) RETURNING *), \
     kept AS ( \
        INSERT INTO fraiseql.flag_history (name, actor, before) SELECT name, $3, to_jsonb(gone) FROM gone) \
     SELECT version, pg_notify('fraiseql_flags', name)::text FROM gone";

const HISTORY: &str = "SELECT id, at, actor, before, after FROM fraiseql.flag_history \
     WHERE name = $1 ORDER BY id DESC LIMIT $2";

/// A flag as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The flag.
    pub flag: FeatureFlag,
    /// Differs after each change.
    pub version: i64,
    /// When it was changed last.
    pub changed_at: DateTime<Utc>,
    /// By whom.
    pub changed_by: String,
}

impl Stored {
    /// The flag with its version, lists of users in order.
    pub fn json(&self) -> Value {
        let mut json = serde_json::to_value(&self.flag).unwrap_or_default();
        json["user_allowlist"] = sorted(&self.flag.user_allowlist).into();
        json["user_denylist"] = sorted(&self.flag.user_denylist).into();
        json["version"] = self.version.into();
        json["changed_at"] = self.changed_at.to_rfc3339().into();
        json["changed_by"] = self.changed_by.as_str().into();
        json
    }
}

/// Which version a change is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Any,
    /// There is none yet.
    Absent,
    /// This one.
    Version(i64),
}

impl Expected {
    const fn bound(self) -> Option<i64> {
        match self {
            Self::Any => None,
            Self::Absent => Some(0),
            Self::Version(version) => Some(version),
        }
    }
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Change {
    /// In the order of the changes.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// The row before; `None` when there was none.
    pub before: Option<Value>,
    /// The row after; `None` when it was deleted.
    pub after: Option<Value>,
}

#[derive(FromRow)]
struct Row {
    name: String,
    description: String,
    enabled: bool,
    percentage: i16,
    user_allowlist: Vec<String>,
    user_denylist: Vec<String>,
    start_time: Option<DateTime<Utc>>,
    end_time: Option<DateTime<Utc>>,
    environments: Vec<String>,
    version: i64,
    changed_at: DateTime<Utc>,
    changed_by: String,
}

impl From<Row> for Stored {
    fn from(row: Row) -> Self {
        let flag = FeatureFlag {
            name: row.name,
            description: row.description,
            enabled: row.enabled,
            percentage: u8::try_from(row.percentage).unwrap_or_default(),
            user_allowlist: row.user_allowlist.into_iter().collect(),
            user_denylist: row.user_denylist.into_iter().collect(),
            start_time: row.start_time,
            end_time: row.end_time,
            environments: row.environments,
        };
        Self { flag, version: row.version, changed_at: row.changed_at, changed_by: row.changed_by }
    }
}

/// The flags of a database.
#[derive(Clone)]
pub struct FlagStore {
    postgres: Postgres,
}

impl FlagStore {
    /// Those of this database.
    pub const fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    /// Every flag, by name.
    ///
    /// # Errors
    /// The database's own: [`super::stored`] tells missing tables apart.
    pub async fn all(&self) -> Result<Vec<Stored>, crate::storage::postgres::Error> {
        let rows: Vec<Row> = self.postgres.read(|| sqlx::query_as(ALL)).await?;
        Ok(rows.into_iter().map(Stored::from).collect())
    }

    /// One flag.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn get(&self, name: &str) -> Result<Option<Stored>, Error> {
        let rows: Vec<Row> = self.postgres.read(|| sqlx::query_as(ONE).bind(name.to_owned())).await?;
        Ok(rows.into_iter().next().map(Stored::from))
    }

    /// Makes a flag what it is to be.
    ///
    /// # Errors
    /// When the flag is wrong, is not in the version that is expected, or the database cannot be asked.
    pub async fn put(&self, flag: &FeatureFlag, expected: Expected, actor: &str) -> Result<Stored, Error> {
        check(flag).map_err(|problems| Error::of_kind(ErrorKind::BadInput, problems))?;
        let statement = sqlx::query_as::<_, Row>(PUT)
            .bind(flag.name.clone())
            .bind(flag.description.clone())
            .bind(flag.enabled)
            .bind(i16::from(flag.percentage))
            .bind(sorted(&flag.user_allowlist))
            .bind(sorted(&flag.user_denylist))
            .bind(flag.start_time)
            .bind(flag.end_time)
            .bind(flag.environments.clone())
            .bind(actor.to_owned())
            .bind(expected.bound())
            .bind(FLAGS_MAX);
        if let Some(row) = self.postgres.write(statement).await?.into_iter().next() {
            let stored = Stored::from(row);
            tracing::info!(flag = stored.flag.name, actor, version = stored.version, "Feature flag changed");
            return Ok(stored);
        }
        match (self.get(&flag.name).await?, expected) {
            (None, Expected::Any | Expected::Absent) => Err(Error::of_kind(
                ErrorKind::BadInput,
                format!("there are {FLAGS_MAX} flags, which is the most"),
            )),
            (None, Expected::Version(_)) => Err(Error::unknown(&flag.name)),
            (Some(_), _) => Err(Error::changed(&flag.name)),
        }
    }

    /// Changes what is there; one that is not known begins as the default. Whoever changes it at the same time does not lose
    /// their change.
    ///
    /// # Errors
    /// As [`put`](Self::put), and when others were faster each time.
    pub async fn edit(
        &self,
        name: &str,
        actor: &str,
        edit: impl Fn(&mut FeatureFlag),
    ) -> Result<Stored, Error> {
        for _ in 0..ATTEMPTS {
            let (mut flag, expected) = match self.get(name).await? {
                Some(stored) => (stored.flag, Expected::Version(stored.version)),
                None => (FeatureFlag { name: name.to_owned(), ..FeatureFlag::default() }, Expected::Absent),
            };
            edit(&mut flag);
            match self.put(&flag, expected, actor).await {
                Err(error) if error == Error::changed(name) || error == Error::unknown(name) => {}
                result => return result,
            }
        }
        Err(Error::changed(name))
    }

    /// Deletes a flag: it is off for everybody.
    ///
    /// # Errors
    /// When there is none, it is not in the version that is expected, or the database cannot be asked.
    pub async fn delete(&self, name: &str, expected: Expected, actor: &str) -> Result<(), Error> {
        let statement = sqlx::query_as::<_, (i64,)>(DELETE)
            .bind(name.to_owned())
            .bind(expected.bound())
            .bind(actor.to_owned());
        if self.postgres.write(statement).await?.is_empty() {
            let known = self.get(name).await?.is_some();
            return Err(if known { Error::changed(name) } else { Error::unknown(name) });
        }
        tracing::info!(flag = name, actor, "Feature flag deleted");
        Ok(())
    }

    /// What happened to a flag, the last change first, at most 200.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn history(&self, name: &str) -> Result<Vec<Change>, Error> {
        let statement = || sqlx::query_as(HISTORY).bind(name.to_owned()).bind(HISTORY_MAX);
        Ok(self.postgres.read(statement).await?)
    }
}

fn sorted(users: &HashSet<String>) -> Vec<String> {
    let mut users: Vec<String> = users.iter().cloned().collect();
    users.sort_unstable();
    users
}
