//! `[cache.redis]`: the connections to Redis.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    pub redis: Redis,
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
    }
}
