//! What a fault could leave behind, line by line: faults that still act, the shape of the database, the stream's
//! configuration, the server's configuration file. Two digests are compared; what differs is what was left.

use std::collections::BTreeSet;

use anyhow::Context;
use harness::environment::{Environment, ServiceName};
use sqlx::{Connection, PgConnection};

pub type Digest = BTreeSet<String>;

pub async fn take(environment: &Environment) -> anyhow::Result<Digest> {
    let mut lines: Digest = ServiceName::ALL
        .iter()
        .map(|name| format!("proxy {name}: {} faults act", environment.proxy(*name).active_faults()))
        .collect();
    for name in ServiceName::ALL {
        lines.insert(format!("proxy {name} leads to {}", environment.proxy(name).upstream()));
    }
    lines.extend(database(environment.service(ServiceName::Postgres).direct_url()).await?);
    lines.extend(stream(environment.service(ServiceName::Nats).direct_url()).await?);
    let config = std::fs::read_to_string(environment.server().config_path()).context("read the config")?;
    lines.extend(config.lines().enumerate().map(|(number, line)| format!("config {}: {line}", number + 1)));
    Ok(lines)
}

async fn database(url: &str) -> anyhow::Result<Vec<String>> {
    let mut db = PgConnection::connect(url).await.context("connect to Postgres")?;
    let lines = sqlx::query_scalar(
        "SELECT format('column %s.%s %s nullable %s default %s', table_name, column_name, data_type, is_nullable,
                       coalesce(column_default, 'none'))
         FROM information_schema.columns WHERE table_schema = 'public'
         UNION ALL
         SELECT format('constraint %s.%s %s', table_name, constraint_name, constraint_type)
         FROM information_schema.table_constraints WHERE table_schema = 'public'
         UNION ALL
         SELECT format('index %s', indexdef) FROM pg_indexes WHERE schemaname = 'public'",
    )
    .fetch_all(&mut db)
    .await
    .context("read the schema")?;
    db.close().await?;
    Ok(lines)
}

async fn stream(url: &str) -> anyhow::Result<Vec<String>> {
    let client = async_nats::connect(url).await.context("connect to NATS")?;
    let stream = async_nats::jetstream::new(client).get_stream("ORDERS").await.context("open the stream")?;
    let config = serde_json::to_value(&stream.cached_info().config)?;
    let fields = config.as_object().context("a stream's configuration is an object")?;
    Ok(fields.iter().map(|(key, value)| format!("stream ORDERS {key}: {value}")).collect())
}

/// Lines of one only, marked as a diff marks them; empty when nothing was left.
pub fn difference(before: &Digest, after: &Digest) -> String {
    let gone = before.difference(after).map(|line| format!("- {line}\n"));
    let new = after.difference(before).map(|line| format!("+ {line}\n"));
    gone.chain(new).collect()
}
