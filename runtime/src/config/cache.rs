//! `[cache.redis]`: the connections to Redis. `[cache.response]`: answers that are kept.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    pub redis: Redis,
    pub response: Response,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Name of the environment variable that holds the URL.
    pub url_env: String,
    pub pool_size: u32,
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// One command, from sending it to its answer.
    #[serde(with = "units::duration")]
    pub command_timeout: Duration,
    /// `host:port` of Sentinels that say which server is the master; none: the URL's server is.
    pub sentinels: Vec<String>,
    /// What the master is called there.
    pub sentinel_master: String,
    /// With it, Redis away means degraded; without it, not ready.
    pub fallback_enabled: bool,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url_env: "REDIS_URL".to_owned(),
            pool_size: 20,
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(1),
            sentinels: Vec::new(),
            sentinel_master: "mymaster".to_owned(),
            fallback_enabled: true,
        }
    }
}

impl Redis {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.variable_name("url_env", &self.url_env);
        checks.count("pool_size", u64::from(self.pool_size), 1..=1_000);
        checks.duration("connect_timeout", self.connect_timeout, "1ms", "5m");
        checks.duration("command_timeout", self.command_timeout, "1ms", "5m");
        for address in &self.sentinels {
            checks.require(
                "sentinels",
                format!("{address:?}"),
                is_address(address),
                "a host and a port: \"10.0.0.1:26379\"",
            );
        }
        let named = !self.sentinel_master.trim().is_empty();
        checks.require(
            "sentinel_master",
            format!("{:?}", self.sentinel_master),
            named,
            "what the master is called",
        );
    }
}

/// `host:port`; an IPv6 address in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty() && !host.contains([':', '/', '@', ' ']);
    (plain || bracketed) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// What is kept, for how long and where. Which answers may be kept at all is said by the schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Response {
    pub enabled: bool,
    pub backend: Backend,
    /// For a `@cacheControl` without `maxAge`.
    #[serde(with = "units::duration")]
    pub default_ttl: Duration,
    /// No answer is fresh for longer, whatever its `maxAge` says.
    #[serde(with = "units::duration")]
    pub max_ttl: Duration,
    /// No answer stands in for a source that is away for longer after that, whatever its `staleIfError` says.
    #[serde(with = "units::duration")]
    pub max_stale: Duration,
    /// A larger answer is not kept.
    #[serde(with = "units::size")]
    pub max_answer: ByteSize,
    /// Entries in memory.
    pub max_entries: u32,
    /// Bytes of them.
    #[serde(with = "units::size")]
    pub max_bytes: ByteSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Shared by all replicas; bounded by Redis' own `maxmemory`.
    Redis,
    /// Of this process alone: a mutation elsewhere does not invalidate it.
    Memory,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            enabled: false,
            backend: Backend::Redis,
            default_ttl: Duration::from_secs(60),
            max_ttl: Duration::from_secs(300),
            max_stale: Duration::from_secs(600),
            max_answer: ByteSize::mib(1),
            max_entries: 10_000,
            max_bytes: ByteSize::mib(64),
        }
    }
}

impl Response {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.duration("default_ttl", self.default_ttl, "1ms", "1day");
        checks.duration("max_ttl", self.max_ttl, "1ms", "1day");
        checks.duration("max_stale", self.max_stale, "0s", "1day");
        checks.size("max_answer", self.max_answer, "1KiB", "64MiB");
        checks.count("max_entries", u64::from(self.max_entries), 1..=10_000_000);
        checks.size("max_bytes", self.max_bytes, "64KiB", "64GiB");
    }
}
