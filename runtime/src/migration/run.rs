//! Applies migrations to a database that is in use.
//!
//! One process at a time: the advisory lock is the one that `sqlx migrate run` takes, and is asked for again and again
//! instead of waited for, since a session that waits holds a snapshot and an index that is built concurrently would
//! wait for it. Each migration has a lock timeout and a statement timeout. One that does not get its lock leaves
//! nothing behind and is tried again, a bounded number of times.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::migrate::{AppliedMigration, Migrate, Migration, Migrator};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::time::Instant;

use super::file_name;
use super::plan::{Plan, plan};
use crate::config::database::Migrations;
use crate::engine::loader::CHANNEL;
use crate::error::{Classify, ErrorKind};
use crate::resilience::backoff::Backoff;
use crate::storage::postgres;

/// Where sqlx notes what was applied: of the folder, and of the runtime's own.
const TABLE: &str = "_sqlx_migrations";
const OWN_TABLE: &str = "fraiseql._sqlx_migrations";
/// The schema of the runtime's own tables.
const OWN_SCHEMA: &str = "fraiseql";

/// Between two attempts to be the one that migrates.
const TURN_POLL: Duration = Duration::from_millis(200);

/// Between two attempts to get a migration's locks: long enough for those who queued behind the last one.
const LOCK_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// Errors of [`run`]. In each of them the migrations before the one that is named are in place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database does not take a connection.
    #[error("could not reach the database that is to be migrated")]
    Connect(#[source] postgres::Error),
    /// Another process migrated the same database all the time.
    #[error("another process has been migrating this database for {waited:?}: look at it, then try again")]
    Turn {
        /// For how long this one waited.
        waited: Duration,
    },
    /// Others held a lock in every attempt. The migration left nothing behind.
    #[error(
        "migration {file} did not get its lock within {lock_timeout:?} in any of {attempts} attempts: end the \
         transactions that hold it or choose a quieter time, then try again"
    )]
    Blocked {
        /// Its name in the folder of migrations.
        file: String,
        /// How often it was tried.
        attempts: u32,
        /// How long each attempt waited.
        lock_timeout: Duration,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// A statement took longer than it may.
    #[error("migration {file} took longer than {limit:?} for one statement and was cancelled")]
    TooSlow {
        /// Its name in the folder of migrations.
        file: String,
        /// The limit of the statement.
        limit: Duration,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The database refused a statement. Unless its file says `-- no-transaction`, the migration left nothing behind.
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
    /// The database has a migration that this build does not know.
    #[error(
        "the database has migration {version}, which this server does not know: it is older than the schema"
    )]
    Unknown {
        /// The number at the start of its file's name.
        version: i64,
    },
    /// An older migrator noted a migration as begun and not ended.
    #[error("migration {version} was begun and not ended: mend the schema and its row in _sqlx_migrations")]
    Unfinished {
        /// The number at the start of its file's name.
        version: i64,
    },
    /// The list of what was applied could not be read or written.
    #[error("could not read or write what was migrated")]
    List(#[source] sqlx::migrate::MigrateError),
    /// A statement around the migrations failed.
    #[error("could not prepare the migration of the database")]
    Prepare(#[source] sqlx::Error),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Turn { .. } | Self::Blocked { .. } => ErrorKind::Unavailable,
            Self::TooSlow { .. } => ErrorKind::Timeout,
            Self::Migration { .. }
            | Self::Changed { .. }
            | Self::Unknown { .. }
            | Self::Unfinished { .. }
            | Self::List(_)
            | Self::Prepare(_) => ErrorKind::Internal,
        }
    }
}

/// Applies those of `migrator` that the database does not have yet, in their order. `url` is a `postgres://` URL;
/// errors do not repeat it.
pub async fn run(
    url: &str,
    connect_timeout: Duration,
    migrator: &Migrator,
    limits: &Migrations,
) -> Result<(), Error> {
    let mut connection = begin(url, connect_timeout, limits).await?;
    for migration in pending(&mut connection, TABLE, migrator).await? {
        apply(&mut connection, TABLE, migration, limits).await?;
        // Servers look at the database again, and at their schema file. One that is older than both keeps what it has.
        connection.execute(sqlx::AssertSqlSafe(format!("NOTIFY {CHANNEL}"))).await.map_err(Error::Prepare)?;
    }
    // Everything is in place already; a connection that cannot be closed in order is closed by the drop.
    let _ = connection.close().await;
    Ok(())
}

/// Applies the runtime's own migrations, for flags and rollouts, in the schema `fraiseql` and with a list of their own there,
/// whatever schema is served. A database that has some that this build does not know is left alone: an older server works
/// beside a newer one.
pub async fn run_own(url: &str, connect_timeout: Duration, limits: &Migrations) -> Result<(), Error> {
    let mut connection = begin(url, connect_timeout, limits).await?;
    // Not asked for where it is there: who may not create schemas can have it made by somebody else.
    let there: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(OWN_SCHEMA)
        .fetch_one(&mut connection)
        .await
        .map_err(Error::Prepare)?;
    if !there {
        connection.create_schema_if_not_exists(OWN_SCHEMA).await.map_err(Error::List)?;
    }
    let pending = match pending(&mut connection, OWN_TABLE, &super::OWN_MIGRATIONS).await {
        Err(Error::Unknown { version }) => {
            tracing::info!(
                version,
                "the tables of the runtime are those of a newer server, they stay as they are"
            );
            Vec::new()
        }
        pending => pending?,
    };
    for migration in pending {
        apply(&mut connection, OWN_TABLE, migration, limits).await?;
    }
    let _ = connection.close().await;
    Ok(())
}

/// A connection that is the one that migrates. The turn ends with it, also when this is dropped half-way.
async fn begin(url: &str, connect_timeout: Duration, limits: &Migrations) -> Result<PgConnection, Error> {
    let mut connection = postgres::connect_alone(url, connect_timeout).await.map_err(Error::Connect)?;
    take_turn(&mut connection, limits.turn_timeout).await?;
    let first =
        Plan { lock_timeout: limits.lock_timeout, statement_timeout: limits.statement_timeout, builds: None };
    set_limits(&mut connection, &first).await?;
    Ok(connection)
}

/// Waits until no other process migrates this database.
async fn take_turn(connection: &mut PgConnection, timeout: Duration) -> Result<(), Error> {
    let database: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::Prepare)?;
    let started = Instant::now();
    let mut told = false;
    loop {
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(lock_id(&database))
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::Prepare)?;
        if taken {
            return Ok(());
        }
        let waited = started.elapsed();
        if waited >= timeout {
            return Err(Error::Turn { waited: timeout });
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!("another process migrates this database, waiting for it");
        }
        tokio::time::sleep(TURN_POLL.min(timeout - waited)).await;
    }
}

/// The key of the advisory lock that sqlx takes, which does not tell it.
fn lock_id(database: &str) -> i64 {
    0x3d32_ad9e * i64::from(crc32fast::hash(database.as_bytes()))
}

/// What is to be applied. Fails when what was applied is not what `migrator` has.
async fn pending<'m>(
    connection: &mut PgConnection,
    table: &str,
    migrator: &'m Migrator,
) -> Result<Vec<&'m Migration>, Error> {
    connection.ensure_migrations_table(table).await.map_err(Error::List)?;
    if let Some(version) = connection.dirty_version(table).await.map_err(Error::List)? {
        return Err(Error::Unfinished { version });
    }
    let applied = connection.list_applied_migrations(table).await.map_err(Error::List)?;
    missing(migrator, &applied)
}

fn missing<'m>(migrator: &'m Migrator, applied: &[AppliedMigration]) -> Result<Vec<&'m Migration>, Error> {
    let known = |version| migrator.iter().find(|migration| migration.version == version);
    for done in applied {
        let migration = known(done.version).ok_or(Error::Unknown { version: done.version })?;
        if migration.checksum != done.checksum {
            return Err(Error::Changed { file: file_name(migration) });
        }
    }
    let is_applied = |version| applied.iter().any(|done| done.version == version);
    let forward = migrator.iter().filter(|migration| !migration.migration_type.is_down_migration());
    Ok(forward.filter(|migration| !is_applied(migration.version)).collect())
}

/// One migration, as often as it may be tried.
async fn apply(
    connection: &mut PgConnection,
    table: &str,
    migration: &Migration,
    limits: &Migrations,
) -> Result<(), Error> {
    let plan = plan(migration.sql.as_str(), migration.no_tx, limits);
    let file = file_name(migration);
    let mut rng = StdRng::from_os_rng();
    for attempt in 0.. {
        set_limits(connection, &plan).await?;
        clear_away(connection, &plan).await?;
        let source = match connection.apply(table, migration).await {
            Ok(took) => {
                tracing::info!(file, seconds = took.as_secs_f64(), "migration applied");
                return Ok(());
            }
            Err(sqlx::migrate::MigrateError::ExecuteMigration(source, _)) => source,
            Err(error) => return Err(Error::List(error)),
        };
        match code(&source).as_deref() {
            Some("55P03") if attempt + 1 < limits.lock_attempts => {
                let pause = LOCK_BACKOFF.delay(attempt, &mut rng);
                tracing::warn!(file, attempt = attempt + 1, ?pause, "the lock was not free, trying again");
                tokio::time::sleep(pause).await;
            }
            Some("55P03") => {
                let (attempts, lock_timeout) = (attempt + 1, plan.lock_timeout);
                return Err(Error::Blocked { file, attempts, lock_timeout, source });
            }
            Some("57014") => return Err(Error::TooSlow { file, limit: plan.statement_timeout, source }),
            _ => return Err(Error::Migration { file, source }),
        }
    }
    unreachable!("the last attempt returns")
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// Also undoes what an earlier migration set for its session.
async fn set_limits(connection: &mut PgConnection, plan: &Plan) -> Result<(), Error> {
    let milliseconds = |limit: Duration| limit.as_millis().to_string();
    sqlx::query("SELECT set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false)")
        .bind(milliseconds(plan.lock_timeout))
        .bind(milliseconds(plan.statement_timeout))
        .execute(connection)
        .await
        .map(drop)
        .map_err(Error::Prepare)
}

/// Drops the invalid index that an earlier attempt to build it left behind.
async fn clear_away(connection: &mut PgConnection, plan: &Plan) -> Result<(), Error> {
    let Some(index) = &plan.builds else { return Ok(()) };
    let is_invalid =
        "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)";
    let is_invalid: bool = sqlx::query_scalar(is_invalid)
        .bind(index)
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::Prepare)?;
    if is_invalid {
        tracing::warn!(index, "dropping what a failed build of the index left behind");
        let drop = AssertSqlSafe(format!("DROP INDEX CONCURRENTLY {index}"));
        connection.execute(drop).await.map_err(Error::Prepare)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::SqlSafeStr;
    use sqlx::migrate::MigrationType;

    use super::*;

    fn migrator(versions: &[i64]) -> Migrator {
        let migration = |version: &i64| {
            Migration::new(*version, "step".into(), MigrationType::Simple, "SELECT 1".into_sql_str(), false)
        };
        Migrator::with_migrations(versions.iter().map(migration).collect())
    }

    fn applied(migrator: &Migrator) -> Vec<AppliedMigration> {
        let applied = |migration: &Migration| AppliedMigration {
            version: migration.version,
            checksum: migration.checksum.clone(),
        };
        migrator.iter().map(applied).collect()
    }

    #[test]
    fn what_is_missing_comes_in_order_and_nothing_twice() {
        let all = migrator(&[3, 1, 2]);
        let versions = |applied: &[AppliedMigration]| -> Vec<i64> {
            missing(&all, applied).expect("they fit").iter().map(|migration| migration.version).collect()
        };
        assert_eq!(versions(&[]), [1, 2, 3]);
        assert_eq!(versions(&applied(&migrator(&[1, 3]))), [2]);
        assert_eq!(versions(&applied(&all)), [0_i64; 0]);
    }

    #[test]
    fn a_database_that_is_ahead_or_that_had_another_text_is_left_alone() {
        let ahead = missing(&migrator(&[1]), &applied(&migrator(&[1, 2]))).expect_err("2 is not known");
        assert!(matches!(ahead, Error::Unknown { version: 2 }), "{ahead}");
        let mut other = applied(&migrator(&[1]));
        other[0].checksum = vec![0].into();
        let changed = missing(&migrator(&[1]), &other).expect_err("another text");
        assert_eq!(
            changed.to_string(),
            "migration 1_step.sql was changed after the database had it: add a new one instead"
        );
    }
}
