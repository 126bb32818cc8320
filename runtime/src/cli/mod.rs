//! Commands that work with the database directly, so that they need no server: flags and rollouts.

pub mod flags;
pub mod rollout;

use std::time::Duration;

use anyhow::Context;
use fraiseql_runtime::config::Config;
use fraiseql_runtime::config::source::Environment;
use fraiseql_runtime::storage::postgres::{Lending, Limits, Postgres};

/// The database of the configuration, over one connection.
fn database(config: &Config) -> anyhow::Result<Postgres> {
    let table = &config.database;
    let limits = Limits {
        min_connections: 0,
        max_connections: 1,
        connect_timeout: table.connect_timeout,
        acquire_timeout: table.acquire_timeout.max(table.connect_timeout),
        idle_timeout: table.idle_timeout,
        max_lifetime: table.max_lifetime,
    };
    let lending = if table.transaction_pooling { Lending::Transaction } else { Lending::Session };
    let timeout = table.query_timeout.max(Duration::from_secs(5));
    Postgres::lent(config.urls.database.expose(), limits, timeout, lending).context("set up the database")
}

/// Who is kept in the history as the one who did it.
fn actor(given: Option<String>) -> String {
    given.unwrap_or_else(|| match Environment::of_process().get("USER") {
        Some(user) => format!("cli:{user}"),
        None => "cli".to_owned(),
    })
}

/// Prints JSON as people can read it.
fn print(json: &serde_json::Value) {
    println!("{json:#}");
}
