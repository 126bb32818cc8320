//! `[resilience]`: when a dependency is not asked any more, and how many calls may wait for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{Checks, TableChecks};
use super::units;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resilience {
    pub breakers: Breakers,
    pub bulkheads: Bulkheads,
}

/// `[resilience.breakers]`: one table for each dependency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breakers {
    pub postgres: Breaker,
    pub redis: Breaker,
    pub nats: Breaker,
}

/// When one breaker opens and closes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// So many faults more than successes within `window` open it.
    pub failure_threshold: u32,
    #[serde(with = "units::duration")]
    pub window: Duration,
    /// For how long nobody asks; then one call at a time does.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// So many of these calls in a row close it.
    pub success_threshold: u32,
}

/// `[resilience.bulkheads]`: calls that may wait for an answer at the same time. That of the database is its pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bulkheads {
    pub redis: u32,
    pub nats: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        let (window, timeout) = (Duration::from_secs(60), Duration::from_secs(1));
        Self { failure_threshold: 10, window, timeout, success_threshold: 1 }
    }
}

impl Default for Breakers {
    fn default() -> Self {
        let postgres = Breaker { success_threshold: 2, ..Breaker::default() };
        Self { postgres, redis: Breaker::default(), nats: Breaker::default() }
    }
}

impl Default for Bulkheads {
    fn default() -> Self {
        Self { redis: 1_000, nats: 256 }
    }
}

impl Resilience {
    pub(super) fn check(&self, checks: &mut Checks) {
        let Breakers { postgres, redis, nats } = &self.breakers;
        postgres.check(&mut checks.table("resilience.breakers.postgres"));
        redis.check(&mut checks.table("resilience.breakers.redis"));
        nats.check(&mut checks.table("resilience.breakers.nats"));
        let mut table = checks.table("resilience.bulkheads");
        table.count("redis", self.bulkheads.redis.into(), 1..=1_000_000);
        table.count("nats", self.bulkheads.nats.into(), 1..=1_000_000);
    }
}

impl Breaker {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        // Each fault within the window is remembered.
        checks.count("failure_threshold", self.failure_threshold.into(), 1..=10_000);
        checks.duration("window", self.window, "100ms", "1h");
        checks.duration("timeout", self.timeout, "10ms", "1h");
        checks.count("success_threshold", self.success_threshold.into(), 1..=1_000);
    }
}
