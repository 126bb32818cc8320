//! The migrator over real databases: one at a time, once each, and what fails is told by its file.

use std::sync::Arc;
use std::time::Duration;

use fraiseql_runtime::config::database::Migrations;
use fraiseql_runtime::error::chain;
use fraiseql_runtime::migration::run::{Error, run};
use fraiseql_runtime::migration::strategy::AppliedMigrations;
use fraiseql_runtime::migration::strategy::store::Applied;
use fraiseql_runtime::migration::{MIGRATIONS, file_name};
use fraiseql_runtime::storage::postgres::{Limits, Postgres};
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr};

use crate::support::{Stage, equal, eventually};

pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);

async fn migrate(url: &url::Url) -> Result<(), Error> {
    run(url.as_str(), CONNECT_WITHIN, &MIGRATIONS, &Migrations::default()).await
}

/// A migrator of these texts; one that begins with `-- no-transaction` runs in none.
fn migrator(texts: &[&str]) -> Migrator {
    let migration = |(version, text): (i64, &&str)| {
        let no_transaction = text.starts_with("-- no-transaction");
        let sql = AssertSqlSafe((*text).to_owned()).into_sql_str();
        Migration::new(version, "step".into(), MigrationType::Simple, sql, no_transaction)
    };
    Migrator::with_migrations((1..).zip(texts).map(migration).collect())
}

async fn connect(url: &url::Url) -> PgConnection {
    PgConnection::connect(url.as_str()).await.expect("the database answers")
}

/// What the migrator knows and what the schema holds.
async fn state(url: &url::Url) -> (Vec<String>, Vec<String>) {
    let mut connection = connect(url).await;
    let applied = sqlx::query_scalar(
        "SELECT version || ' ' || success || ' ' || installed_on || ' ' || encode(checksum, 'hex')
         FROM _sqlx_migrations ORDER BY version",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the migrator's table");
    let schema = sqlx::query_scalar(
        "SELECT relname || ' ' || relkind::text || ' ' || oid || ' ' || relfilenode FROM pg_class
         WHERE relnamespace = 'public'::regnamespace ORDER BY relname",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the catalogue");
    (applied, schema)
}

pub async fn two_migrators_at_once_leave_each_migration_applied_once(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    let migrators = (0..4).map(|_| migrate(&url));
    for result in futures::future::join_all(migrators).await {
        result.expect("each of them ends well");
    }
    let (applied, schema) = state(&url).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/schemas/ecommerce/migrations");
    let files = std::fs::read_dir(folder).expect("the folder");
    assert_eq!(applied.len(), files.count(), "{applied:?}");
    assert!(applied.iter().all(|row| row.contains(" true ")), "{applied:?}");
    for table in ["orders r ", "outbox r ", "invoices r "] {
        assert!(schema.iter().any(|row| row.starts_with(table)), "{table} is missing: {schema:?}");
    }
}

pub async fn a_second_run_changes_nothing(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    migrate(&url).await.expect("migrated");
    let before = state(&url).await;
    migrate(&url).await.expect("nothing to do");
    assert_eq!(state(&url).await, before);
}

pub async fn a_failing_migration_names_its_file_and_the_reason(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    let mut connection = connect(&url).await;
    connection.execute("CREATE TABLE outbox (planted int)").await.expect("a table in the way");
    let error = migrate(&url).await.expect_err("the table is there");
    assert!(matches!(error, Error::Migration { .. }), "{error:?}");
    let told = chain(&error);
    assert!(told.contains("20261121090100_create_outbox.sql"), "{told}");
    assert!(told.contains("relation \"outbox\" already exists"), "{told}");
    let (applied, schema) = state(&url).await;
    assert_eq!(applied.len(), 1, "those before it are in place: {applied:?}");
    assert!(schema.iter().any(|row| row.starts_with("orders r ")), "{schema:?}");
    assert!(!schema.iter().any(|row| row.starts_with("outbox_unpublished ")), "it left nothing: {schema:?}");

    connection.execute("DROP TABLE outbox").await.expect("out of the way");
    migrate(&url).await.expect("the rest is applied");
}

pub async fn a_changed_migration_is_told_by_its_file(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    migrate(&url).await.expect("migrated");
    let change = "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 20261121090000";
    connect(&url).await.execute(change).await.expect("as if the file had been another one");
    let error = migrate(&url).await.expect_err("the text differs");
    assert!(matches!(error, Error::Changed { .. }), "{error:?}");
    assert!(error.to_string().contains("20261121090000_create_ecommerce.sql"), "{error}");
}

/// A table with rows, and limits for a test that runs into them.
async fn counters(stage: &Stage) -> (url::Url, Migrations) {
    let url = stage.database(stage.number()).await;
    let create = "CREATE TABLE counters AS SELECT n AS id, n % 2 AS parity FROM generate_series(1, 100) AS n";
    connect(&url).await.execute(create).await.expect("a table");
    let limits = Migrations {
        lock_timeout: Duration::from_millis(100),
        lock_attempts: 2,
        turn_timeout: Duration::from_millis(300),
        ..Migrations::default()
    };
    (url, limits)
}

async fn count(url: &url::Url, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&mut connect(url).await).await.expect("counted")
}

const COLUMNS: &str = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'counters'";

pub async fn a_blocked_migration_gives_up_by_itself_and_leaves_nothing(stage: Arc<Stage>) {
    let (url, limits) = counters(&stage).await;
    let all = migrator(&["CREATE TABLE first ()", "ALTER TABLE counters ADD COLUMN note text"]);
    let mut reader = connect(&url).await;
    let mut transaction = reader.begin().await.expect("begun");
    transaction.execute("SELECT FROM counters").await.expect("a lock that ADD COLUMN waits for");

    let error = run(url.as_str(), CONNECT_WITHIN, &all, &limits).await.expect_err("the lock is held");
    assert!(matches!(error, Error::Blocked { attempts: 2, .. }), "{error:?}");
    let told = chain(&error);
    assert!(told.contains("2_step.sql") && told.contains("lock timeout"), "{told}");
    assert_eq!(count(&url, COLUMNS).await, 2, "and others read, although the lock is still held");
    assert_eq!(count(&url, "SELECT count(*) FROM _sqlx_migrations").await, 1, "the one before is in place");

    transaction.rollback().await.expect("ended");
    run(url.as_str(), CONNECT_WITHIN, &all, &limits).await.expect("applied");
    assert_eq!(count(&url, COLUMNS).await, 3);
}

pub async fn a_migration_is_tried_again_until_its_lock_is_free(stage: Arc<Stage>) {
    let (url, limits) = counters(&stage).await;
    let limits = Migrations { lock_attempts: 1_000, ..limits };
    let all = migrator(&["ALTER TABLE counters ADD COLUMN note text"]);
    let mut holder = connect(&url).await;
    let mut transaction = holder.begin().await.expect("begun");
    transaction.execute("SELECT FROM counters").await.expect("a lock");
    let migrating = {
        let url = url.clone();
        tokio::spawn(async move { run(url.as_str(), CONNECT_WITHIN, &all, &limits).await })
    };
    // An attempt that was given up is a transaction that was rolled back; the holder's is none of them yet.
    let given_up = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    eventually("an attempt is given up", async || {
        let rolled_back = count(&url, given_up).await;
        if rolled_back > 0 { Ok(()) } else { Err(format!("{rolled_back} rolled back")) }
    })
    .await;
    transaction.commit().await.expect("free");
    migrating.await.expect("it ended").expect("it got its lock");
    assert_eq!(count(&url, COLUMNS).await, 3);
}

pub async fn a_statement_that_takes_too_long_is_cancelled(stage: Arc<Stage>) {
    let (url, limits) = counters(&stage).await;
    let limits = Migrations { statement_timeout: Duration::from_millis(100), ..limits };
    let slow = migrator(&["ALTER TABLE counters ADD COLUMN note text; SELECT pg_sleep(600)"]);
    let error = run(url.as_str(), CONNECT_WITHIN, &slow, &limits).await.expect_err("ten minutes");
    assert!(matches!(error, Error::TooSlow { .. }), "{error:?}");
    assert_eq!(count(&url, COLUMNS).await, 2, "it left nothing");
    let online = migrator(&["-- no-transaction\nSELECT pg_sleep(0.5)"]);
    run(url.as_str(), CONNECT_WITHIN, &online, &limits).await.expect("another limit is for this one");
}

pub async fn a_limit_that_one_migration_set_does_not_reach_the_next(stage: Arc<Stage>) {
    let (url, limits) = counters(&stage).await;
    let all = migrator(&[
        "SET lock_timeout = 0; SET statement_timeout = 0",
        "CREATE TABLE seen AS SELECT current_setting('lock_timeout') || current_setting('statement_timeout') AS it",
    ]);
    run(url.as_str(), CONNECT_WITHIN, &all, &limits).await.expect("applied");
    let seen: String =
        sqlx::query_scalar("SELECT it FROM seen").fetch_one(&mut connect(&url).await).await.expect("a row");
    assert_eq!(seen, "100ms5min");
}

pub async fn the_turn_of_another_migrator_is_waited_for_a_bounded_time(stage: Arc<Stage>) {
    let (url, limits) = counters(&stage).await;
    let all = migrator(&["ALTER TABLE counters ADD COLUMN note text"]);
    let mut other = connect(&url).await;
    other.lock().await.expect("the lock that sqlx takes");
    let error = run(url.as_str(), CONNECT_WITHIN, &all, &limits).await.expect_err("another has the turn");
    assert!(matches!(error, Error::Turn { .. }), "{error:?}");
    assert_eq!(count(&url, COLUMNS).await, 2);

    let patient = Migrations { turn_timeout: Duration::from_secs(60), ..limits };
    let waiting = {
        let url = url.clone();
        tokio::spawn(async move { run(url.as_str(), CONNECT_WITHIN, &all, &patient).await })
    };
    let asked = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND query LIKE 'SELECT pg_try_advisory_lock%'";
    eventually("it asks for its turn", async || equal(count(&url, asked).await, 1)).await;
    other.unlock().await.expect("given back");
    waiting.await.expect("it ended").expect("its turn came");
    assert_eq!(count(&url, COLUMNS).await, 3);
}

pub async fn an_index_is_built_concurrently_while_others_wait_for_their_turn(stage: Arc<Stage>) {
    let (url, limits) = counters(&stage).await;
    let limits = Migrations { turn_timeout: Duration::from_secs(60), ..limits };
    const BUILD: &str = "-- no-transaction\nCREATE INDEX CONCURRENTLY counters_parity ON counters (parity)";
    // Older than the index: the build waits for it, longer than the lock timeout, while the others wait for the build.
    let mut older = connect(&url).await;
    older.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM counters").await.expect("a snapshot");
    let migrators: Vec<_> = (0..3)
        .map(|_| {
            let (url, limits) = (url.clone(), limits.clone());
            tokio::spawn(async move { run(url.as_str(), CONNECT_WITHIN, &migrator(&[BUILD]), &limits).await })
        })
        .collect();
    let building = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND query LIKE '%CREATE INDEX CONCURRENTLY%'
                      AND wait_event_type = 'Lock' AND now() - query_start > interval '300 ms'";
    let asking = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND query LIKE 'SELECT pg_try_advisory_lock%'";
    eventually("one builds for longer than a lock timeout, two ask for their turn", async || {
        equal((count(&url, building).await, count(&url, asking).await), (1, 2))
    })
    .await;
    older.execute("COMMIT").await.expect("ended");
    for migrator in migrators {
        migrator.await.expect("it ended").expect("no deadlock");
    }
    assert_eq!(count(&url, VALID).await, 1);
}

const VALID: &str = "SELECT count(*) FROM pg_index WHERE indrelid = 'counters'::regclass AND indisvalid";

pub async fn what_a_failed_build_of_an_index_left_is_built_anew(stage: Arc<Stage>) {
    let (url, limits) = counters(&stage).await;
    let build = "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY counters_id ON counters (id)";
    let all = migrator(&[build]);
    connect(&url).await.execute("INSERT INTO counters VALUES (7, 1)").await.expect("a duplicate");
    let error = run(url.as_str(), CONNECT_WITHIN, &all, &limits).await.expect_err("7 is there twice");
    assert!(matches!(error, Error::Migration { .. }), "{error:?}");
    let left = "SELECT count(*) FROM pg_index WHERE indrelid = 'counters'::regclass AND NOT indisvalid";
    assert_eq!(count(&url, left).await, 1, "PostgreSQL leaves the invalid index");

    connect(&url).await.execute("DELETE FROM counters WHERE id = 7").await.expect("no duplicate");
    run(url.as_str(), CONNECT_WITHIN, &all, &limits).await.expect("built");
    assert_eq!((count(&url, left).await, count(&url, VALID).await), (0, 1));
}

pub async fn a_migration_is_known_by_its_number_its_name_or_its_file(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    migrate(&url).await.expect("migrated");
    let limits = Limits {
        min_connections: 0,
        max_connections: 2,
        connect_timeout: CONNECT_WITHIN,
        acquire_timeout: CONNECT_WITHIN,
        idle_timeout: CONNECT_WITHIN,
        max_lifetime: CONNECT_WITHIN,
    };
    let postgres = Postgres::new(url.as_str(), limits, CONNECT_WITHIN).expect("a URL");
    let applied = Applied { postgres };
    let first = MIGRATIONS.iter().next().expect("there are migrations");
    let file = file_name(first);
    let name = file.trim_end_matches(".sql");
    for known in [file.as_str(), name, &first.version.to_string(), &format!("000{name}")] {
        assert_eq!(applied.is_applied(known).await, Ok(true), "{known}");
    }
    for unknown in ["", "abc", "99999999999999", &format!("{}_other.sql", first.version), &format!("{name}x")]
    {
        assert_eq!(applied.is_applied(unknown).await, Ok(false), "{unknown}");
    }
    let mut connection = connect(&url).await;
    let unfinished = format!("UPDATE _sqlx_migrations SET success = false WHERE version = {}", first.version);
    connection.execute(AssertSqlSafe(unfinished)).await.expect("the migrator's table");
    assert_eq!(applied.is_applied(&file).await, Ok(false), "it was begun and not ended");
    connection.close().await.expect("closed");
}

pub async fn the_binary_migrates_a_folder_of_ones_own(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("fraiseql.toml");
    std::fs::write(&config, "").expect("written");
    let run = async |migrations: &std::path::Path| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_fraiseql-server"))
            .args(["migrate".as_ref(), "--config".as_ref(), config.as_os_str(), "--folder".as_ref()])
            .arg(migrations)
            .env("DATABASE_URL", url.as_str())
            .env("REDIS_URL", "redis://127.0.0.1:1")
            .env("NATS_URL", "nats://127.0.0.1:1")
            .output()
            .await
            .expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let blog = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/schemas/blog/migrations");
    assert_eq!(run(blog.as_ref()).await.0, Some(0));
    let migrated = state(&url).await;
    assert_eq!(migrated.0.len(), std::fs::read_dir(blog).expect("migrations").count());
    assert!(migrated.1.iter().any(|relation| relation.starts_with("posts r")), "{:?}", migrated.1);
    assert_eq!(run(blog.as_ref()).await.0, Some(0));
    assert_eq!(state(&url).await, migrated, "the second run changes nothing");
    for wrong in [folder.path().join("none"), folder.path().to_owned()] {
        let (code, said) = run(&wrong).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&wrong.display().to_string()), "{said}");
    }
}
