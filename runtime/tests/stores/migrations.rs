//! The migrator over real databases: one at a time, once each, and what fails is told by its file.

use std::sync::Arc;
use std::time::Duration;

use fraiseql_runtime::error::chain;
use fraiseql_runtime::storage::{MigrateError, migrate};
use sqlx::{Connection, Executor, PgConnection};

use crate::support::Stage;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

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
    let migrators = (0..4).map(|_| migrate(url.as_str(), CONNECT_WITHIN));
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
    migrate(url.as_str(), CONNECT_WITHIN).await.expect("migrated");
    let before = state(&url).await;
    migrate(url.as_str(), CONNECT_WITHIN).await.expect("nothing to do");
    assert_eq!(state(&url).await, before);
}

pub async fn a_failing_migration_names_its_file_and_the_reason(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    let mut connection = connect(&url).await;
    connection.execute("CREATE TABLE outbox (planted int)").await.expect("a table in the way");
    let error = migrate(url.as_str(), CONNECT_WITHIN).await.expect_err("the table is there");
    assert!(matches!(error, MigrateError::Migration { .. }), "{error:?}");
    let told = chain(&error);
    assert!(told.contains("20261121090100_create_outbox.sql"), "{told}");
    assert!(told.contains("relation \"outbox\" already exists"), "{told}");
    let (applied, schema) = state(&url).await;
    assert_eq!(applied.len(), 1, "those before it are in place: {applied:?}");
    assert!(schema.iter().any(|row| row.starts_with("orders r ")), "{schema:?}");
    assert!(!schema.iter().any(|row| row.starts_with("outbox_unpublished ")), "it left nothing: {schema:?}");

    connection.execute("DROP TABLE outbox").await.expect("out of the way");
    migrate(url.as_str(), CONNECT_WITHIN).await.expect("the rest is applied");
}

pub async fn a_changed_migration_is_told_by_its_file(stage: Arc<Stage>) {
    let url = stage.database(stage.number()).await;
    migrate(url.as_str(), CONNECT_WITHIN).await.expect("migrated");
    let change = "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 20261121090000";
    connect(&url).await.execute(change).await.expect("as if the file had been another one");
    let error = migrate(url.as_str(), CONNECT_WITHIN).await.expect_err("the text differs");
    assert!(matches!(error, MigrateError::Changed { .. }), "{error:?}");
    assert!(error.to_string().contains("20261121090000_create_ecommerce.sql"), "{error}");
}
