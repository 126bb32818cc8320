//! The `fraiseql.toml` that the harness writes, and the variables that carry the URLs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use toml::{Table, Value};

use crate::environment::ServiceName;
use crate::environment::stub::StubName;

/// The server's own default when the file says nothing.
const DEFAULT_GRACE: &str = "10s";

/// The variable with the secret by which webhooks are signed.
pub const WEBHOOK_SECRET_ENV: &str = "WEBHOOK_SECRET";
/// What it holds: no secret, since nobody knows it but a server that a run of the harness started.
pub const WEBHOOK_SECRET: &str = "whsec_of_a_run";

/// What the harness needs to say, with `overrides` merged over it.
pub(super) fn table(address: SocketAddr, spool: &Path, overrides: Table) -> Table {
    let mut table = Table::new();
    let mut set = |path: &[&str], value: Value| put(&mut table, path, value);
    set(&["server", "bind_address"], address.to_string().into());
    set(&["server", "shutdown_grace"], DEFAULT_GRACE.into());
    set(&["database", "url_env"], "DATABASE_URL".into());
    set(&["cache", "redis", "url_env"], "REDIS_URL".into());
    set(&["nats", "url_env"], "NATS_URL".into());
    set(&["queue", "spool_dir"], spool.display().to_string().into());
    if let Some(workspace) = super::workspace() {
        let schema = workspace.join("fixtures/schemas/ecommerce/schema.graphql");
        set(&["graphql", "schema"], schema.display().to_string().into());
    }
    // One address sends the load of many. Whoever tests the limits names another policy.
    set(&["limits", "policy"], "load-test".into());
    set(&["logging", "format"], "json".into());
    // A line for every request would be millions in a soak, and the disk would be what is measured.
    set(&["logging", "access"], "errors-and-slow".into());
    merge(&mut table, overrides);
    table
}

/// Has the server read a changed copy of its schema file, in `folder`.
pub(super) fn change_schema(
    table: &mut Table,
    folder: &Path,
    change: impl FnOnce(&str) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let path = table.get("graphql").and_then(|graphql| graphql.get("schema")).and_then(Value::as_str);
    let path = path.context("graphql.schema is not set: there is no schema to change")?;
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let copy = folder.join("schema.graphql");
    std::fs::write(&copy, change(&text)?).with_context(|| format!("write {}", copy.display()))?;
    put(table, &["graphql", "schema"], copy.display().to_string().into());
    Ok(())
}

/// The grace that the table gives the server to end in.
pub(super) fn grace(table: &Table) -> anyhow::Result<Duration> {
    let text = table
        .get("server")
        .and_then(|server| server.get("shutdown_grace"))
        .map_or(Some(DEFAULT_GRACE), Value::as_str)
        .context("server.shutdown_grace is not a string")?;
    humantime::parse_duration(text).with_context(|| format!("server.shutdown_grace = {text:?}"))
}

/// DATABASE_URL, REDIS_URL and NATS_URL through the proxies, where the stand-ins are, and by what webhooks are signed.
pub(super) fn environment(
    urls: &BTreeMap<ServiceName, (String, String)>,
    stubs: &BTreeMap<StubName, String>,
) -> Vec<(String, OsString)> {
    let stubs = stubs.iter().map(|(name, url)| {
        let variable = match name {
            StubName::Webhook => "WEBHOOK_URL",
            StubName::Slack => "SLACK_WEBHOOK_URL",
            StubName::Email => "SMTP_URL",
        };
        (variable.to_owned(), url.into())
    });
    urls.iter()
        .map(|(name, (_, proxied))| {
            let variable = match name {
                ServiceName::Postgres => "DATABASE_URL",
                ServiceName::Redis => "REDIS_URL",
                ServiceName::Nats => "NATS_URL",
            };
            (variable.to_owned(), proxied.into())
        })
        .chain(stubs)
        .chain([(WEBHOOK_SECRET_ENV.to_owned(), WEBHOOK_SECRET.into())])
        .collect()
}

fn put(table: &mut Table, path: &[&str], value: Value) {
    match path {
        [] => {}
        [key] => drop(table.insert((*key).to_owned(), value)),
        [key, rest @ ..] => {
            let inner = table.entry((*key).to_owned()).or_insert_with(|| Table::new().into());
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Tables are merged, everything else is replaced.
pub fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(overrides: &str) -> Table {
        let overrides = toml::from_str(overrides).expect("overrides");
        table("127.0.0.1:8000".parse().expect("address"), Path::new("/run/spool"), overrides)
    }

    #[test]
    fn an_override_replaces_one_key_and_leaves_its_neighbours() {
        let table = with("[server]\nshutdown_grace = \"1s\"\n[cache.redis]\npool_size = 3\n");
        assert_eq!(table["server"]["bind_address"].as_str(), Some("127.0.0.1:8000"));
        assert_eq!(table["cache"]["redis"]["url_env"].as_str(), Some("REDIS_URL"));
        assert_eq!(table["cache"]["redis"]["pool_size"].as_integer(), Some(3));
        assert_eq!(table["limits"]["policy"].as_str(), Some("load-test"));
        assert_eq!(table["logging"]["access"].as_str(), Some("errors-and-slow"));
        assert_eq!(grace(&table).expect("grace"), Duration::from_secs(1));
    }

    #[test]
    fn a_grace_that_is_no_duration_is_an_error() {
        assert!(grace(&with("[server]\nshutdown_grace = \"soon\"\n")).is_err());
        assert!(grace(&with("[server]\nshutdown_grace = 5\n")).is_err());
    }
}
