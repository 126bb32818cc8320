//! `[limits]`: how much a caller may ask, and all of them together. `[backpressure]`: what happens to what is too much.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::check::TableChecks;
use super::units;

/// Limits of callers and of this instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Without it nothing of this table holds.
    pub enabled: bool,
    /// Which quotas hold.
    pub policy: Policy,
    /// Requests a minute of who has no tier; with `uniform` of everybody.
    pub default_rpm: u32,
    /// Of its requests a minute a client may use this part for mutations; reads go on when it is used up.
    pub writes_percent: u32,
    /// Requests a minute of each client to one route, by its path.
    pub per_endpoint: BTreeMap<String, u32>,
    /// Requests a second that this instance takes.
    pub global_max_qps: u32,
    /// So many of them at once; 0: as many as in a second.
    pub global_burst: u32,
    /// Requests that this instance executes at a time; further ones wait.
    pub global_max_concurrent: u32,
    /// Requests a second that this instance takes of one client.
    pub client_max_qps: u32,
    /// Requests of one client that this instance executes at a time; as many more may wait.
    pub client_max_concurrent: u32,
    /// A request over a limit of a second waits so long for its turn, then it is refused.
    #[serde(with = "units::duration")]
    pub queue_for: Duration,
    /// Quotas of a minute are shared by all replicas.
    pub use_redis: bool,
    /// Redis has so long; then the replica decides on its own.
    #[serde(with = "units::duration")]
    pub redis_timeout: Duration,
    /// How many replicas there are: without Redis each gives its part of a quota.
    pub replicas: u32,
    /// Clients that are remembered in memory.
    pub max_clients: u32,
    /// Addresses and networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    pub tiers: Tiers,
    pub checklist: Checklist,
    /// Other names of `global_max_qps` and `client_max_qps`.
    #[serde(skip_serializing)]
    global_qps: Option<u32>,
    #[serde(skip_serializing)]
    per_client_qps: Option<u32>,
    #[serde(skip_serializing)]
    token_refill_rate: Option<u32>,
}

/// Which quotas hold for callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// `tiers` in production, else `uniform`.
    ByMode,
    /// Each by its tier.
    Tiers,
    /// `default_rpm` for everybody.
    Uniform,
    /// The values of `[limits.checklist]` for everybody.
    Checklist,
    /// None for a client, so that one address can send the load of many; those of the instance hold.
    LoadTest,
}

/// Requests a minute by what the caller is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tiers {
    /// Of an address.
    pub anonymous_rpm: u32,
    /// Of who is known.
    pub authenticated_rpm: u32,
    /// Of those who run the service.
    pub admin_rpm: u32,
}

/// Three values for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checklist {
    pub per_minute: u32,
    pub per_hour: u32,
    /// At once.
    pub burst: u32,
}

/// What happens when more comes than is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backpressure {
    pub queue_rejection_policy: RejectionPolicy,
    /// Requests that wait, unless all are queued.
    pub max_queue_depth: u32,
    /// No request waits longer.
    #[serde(with = "units::duration")]
    pub queue_timeout: Duration,
    /// When the queue was never empty for `shed_interval`, nobody waits longer than this, and the newest go first.
    #[serde(with = "units::duration")]
    pub shed_target: Duration,
    #[serde(with = "units::duration")]
    pub shed_interval: Duration,
    /// Bodies of waiting requests in memory; the rest is on disk.
    pub max_queue_memory_mb: u32,
    /// Bodies of waiting requests on disk.
    pub max_queue_disk_mb: u32,
    /// Of the memory that this process may use; above it nothing is queued, and requests are refused.
    pub memory_threshold_percent: u32,
    /// Whether a request is refused when no connection to the database is free; else it waits for one.
    pub reject_if_saturated: bool,
}

/// When a request is refused instead of queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RejectionPolicy {
    /// When the queue is full.
    FailFast,
    /// Never for its length: bodies go to disk when they take too much memory, and a full disk refuses.
    QueueAll,
    /// As `queue-all` while there is memory, then as `fail-fast`.
    Adaptive,
}

/// Other names of keys, with their table. Both may be given when they say the same.
pub(super) const ALIASES: [(&str, &str); 3] =
    [("limits", "global_qps"), ("limits", "per_client_qps"), ("limits", "token_refill_rate")];

impl Default for Limits {
    fn default() -> Self {
        Self {
            enabled: true,
            policy: Policy::ByMode,
            default_rpm: 1_000,
            writes_percent: 50,
            per_endpoint: BTreeMap::new(),
            global_max_qps: 10_000,
            global_burst: 0,
            global_max_concurrent: 100,
            client_max_qps: 100,
            client_max_concurrent: 10,
            queue_for: Duration::from_millis(100),
            use_redis: true,
            redis_timeout: Duration::from_millis(50),
            replicas: 1,
            max_clients: 100_000,
            trusted_proxies: Vec::new(),
            tiers: Tiers::default(),
            checklist: Checklist::default(),
            global_qps: None,
            per_client_qps: None,
            token_refill_rate: None,
        }
    }
}

impl Default for Tiers {
    fn default() -> Self {
        Self { anonymous_rpm: 10, authenticated_rpm: 100, admin_rpm: 1_000 }
    }
}

impl Default for Checklist {
    fn default() -> Self {
        Self { per_minute: 100, per_hour: 1_000, burst: 20 }
    }
}

impl Default for Backpressure {
    fn default() -> Self {
        Self {
            queue_rejection_policy: RejectionPolicy::Adaptive,
            max_queue_depth: 1_000,
            queue_timeout: Duration::from_secs(1),
            shed_target: Duration::from_millis(20),
            shed_interval: Duration::from_millis(100),
            max_queue_memory_mb: 500,
            max_queue_disk_mb: 2_000,
            memory_threshold_percent: 80,
            reject_if_saturated: false,
        }
    }
}

const COUNT_MAX: u64 = 10_000_000;

impl Limits {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        let positive = [
            ("default_rpm", self.default_rpm),
            ("global_max_qps", self.global_max_qps),
            ("global_max_concurrent", self.global_max_concurrent),
            ("client_max_qps", self.client_max_qps),
            ("client_max_concurrent", self.client_max_concurrent),
            ("max_clients", self.max_clients),
        ];
        for (key, value) in positive {
            checks.count(key, value.into(), 1..=COUNT_MAX);
        }
        checks.count("global_burst", self.global_burst.into(), 0..=COUNT_MAX);
        checks.count("writes_percent", self.writes_percent.into(), 1..=100);
        checks.count("replicas", self.replicas.into(), 1..=10_000);
        checks.duration("queue_for", self.queue_for, "0s", "10s");
        checks.duration("redis_timeout", self.redis_timeout, "1ms", "1s");
        for (path, rpm) in &self.per_endpoint {
            let value = format!("{path:?} = {rpm}");
            let holds = path.starts_with('/') && (1..=COUNT_MAX).contains(&u64::from(*rpm));
            checks.require("per_endpoint", value, holds, "a route that begins with /, and 1 to 10000000");
        }
        for proxy in &self.trusted_proxies {
            let allowed = "addresses and networks such as \"10.0.0.0/8\"";
            checks.require("trusted_proxies", format!("{proxy:?}"), network(proxy).is_some(), allowed);
        }
        let pairs = [
            ("global_qps", self.global_qps, "global_max_qps", self.global_max_qps, 10_000),
            ("per_client_qps", self.per_client_qps, "client_max_qps", self.client_max_qps, 100),
            ("token_refill_rate", self.token_refill_rate, "client_max_qps", self.client_max_qps, 100),
        ];
        for (alias, given, canonical, value, default) in pairs {
            let Some(given) = given else { continue };
            checks.count(alias, given.into(), 1..=COUNT_MAX);
            let allowed = format!("the same as {canonical} = {value}, which it is another name of");
            checks.require(alias, given, value == default || given == value, &allowed);
        }
        let (one, other) = (self.per_client_qps, self.token_refill_rate);
        if let (Some(one), Some(other)) = (one, other) {
            checks.require("token_refill_rate", other, one == other, "the same as per_client_qps");
        }
    }

    /// With other names taken for the names.
    pub(super) fn canonical(mut self) -> Self {
        self.global_max_qps = self.global_qps.take().unwrap_or(self.global_max_qps);
        let client = self.per_client_qps.take().or(self.token_refill_rate.take());
        self.client_max_qps = client.unwrap_or(self.client_max_qps);
        self
    }

    /// The proxies that are believed.
    pub fn proxies(&self) -> Vec<IpNet> {
        self.trusted_proxies.iter().filter_map(|proxy| network(proxy)).collect()
    }

    /// The policy that holds in a mode.
    pub const fn policy(&self, mode: Mode) -> Policy {
        match (self.policy, mode) {
            (Policy::ByMode, Mode::Production) => Policy::Tiers,
            (Policy::ByMode, Mode::Development) => Policy::Uniform,
            (policy, _) => policy,
        }
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

impl Tiers {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.count("anonymous_rpm", self.anonymous_rpm.into(), 1..=COUNT_MAX);
        checks.count("authenticated_rpm", self.authenticated_rpm.into(), 1..=COUNT_MAX);
        checks.count("admin_rpm", self.admin_rpm.into(), 1..=COUNT_MAX);
    }
}

impl Checklist {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.count("per_minute", self.per_minute.into(), 1..=COUNT_MAX);
        checks.count("per_hour", self.per_hour.into(), 1..=COUNT_MAX);
        checks.count("burst", self.burst.into(), 1..=COUNT_MAX);
    }
}

impl Backpressure {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.count("max_queue_depth", self.max_queue_depth.into(), 0..=1_000_000);
        checks.duration("queue_timeout", self.queue_timeout, "1ms", "1m");
        checks.duration("shed_target", self.shed_target, "1ms", "1m");
        checks.duration("shed_interval", self.shed_interval, "1ms", "1m");
        let (target, timeout) = (self.shed_target, self.queue_timeout);
        let allowed = "at most backpressure.queue_timeout";
        checks.require("shed_target", units::show_duration(target), target <= timeout, allowed);
        checks.count("max_queue_memory_mb", self.max_queue_memory_mb.into(), 0..=1_000_000);
        checks.count("max_queue_disk_mb", self.max_queue_disk_mb.into(), 0..=1_000_000);
        checks.count("memory_threshold_percent", self.memory_threshold_percent.into(), 1..=100);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_or_a_range() {
        for good in ["10.0.0.0/8", "10.1.2.3", "::1", "fd00::/8"] {
            assert!(network(good).is_some(), "{good}");
        }
        for bad in ["", "*", "proxy.example", "10.0.0.0/33"] {
            assert!(network(bad).is_none(), "{bad}");
        }
    }
}
