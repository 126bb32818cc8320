//! Redis: arguments, a PING that proves it works, and the settings in force.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use super::probe::Facts;
use super::settings::ServiceSettings;

const SHOWN: [&str; 4] = ["appendonly", "appendfsync", "maxmemory-policy", "save"];

pub(crate) fn url(address: &str) -> String {
    format!("redis://{address}/0")
}

/// `--name value` for each setting.
pub(crate) fn arguments(settings: &ServiceSettings) -> Vec<String> {
    settings.settings.iter().flat_map(|(key, value)| [format!("--{key}"), value.clone()]).collect()
}

pub(crate) async fn facts(url: &str) -> anyhow::Result<Facts> {
    let client = ::redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await.context("connect")?;
    let pong: String = ::redis::cmd("PING").query_async(&mut connection).await?;
    ensure!(pong == "PONG", "PING was answered with {pong:?}");
    let info: String = ::redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .context("INFO has no redis_version")?
        .trim()
        .to_owned();
    let settings: BTreeMap<String, String> =
        ::redis::cmd("CONFIG").arg("GET").arg(&SHOWN).query_async(&mut connection).await?;
    Ok(Facts { version, settings })
}
