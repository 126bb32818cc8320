//! Postgres: arguments, a query that proves it works, the settings in force, and the seed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use sqlx::{Connection, PgConnection};

use super::probe::Facts;
use super::settings::ServiceSettings;

pub(crate) const USER: &str = "postgres";
pub(crate) const DATABASE: &str = "postgres";

/// Settings that a report shows.
const SHOWN: [&str; 8] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "max_connections",
    "shared_buffers",
    "data_checksums",
    "default_transaction_isolation",
];

pub(crate) fn url(address: &str, password: &str) -> String {
    format!("postgres://{USER}:{password}@{address}/{DATABASE}")
}

/// `-c name=value` for each setting.
pub(crate) fn arguments(settings: &ServiceSettings) -> Vec<String> {
    settings.settings.iter().flat_map(|(key, value)| ["-c".to_owned(), format!("{key}={value}")]).collect()
}

pub(crate) async fn facts(url: &str) -> anyhow::Result<Facts> {
    let mut connection = PgConnection::connect(url).await.context("connect")?;
    let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY($1)")
            .bind(SHOWN.map(str::to_owned).to_vec())
            .fetch_all(&mut connection)
            .await?;
    connection.close().await.context("close")?;
    Ok(Facts { version, settings: rows.into_iter().collect::<BTreeMap<_, _>>() })
}

/// Runs a file of SQL statements.
pub(crate) async fn load_seed(url: &str, file: &Path) -> anyhow::Result<()> {
    let sql = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut connection = PgConnection::connect(url).await.context("connect to load the seed")?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .with_context(|| format!("load {}", file.display()))?;
    connection.close().await.context("close")
}
