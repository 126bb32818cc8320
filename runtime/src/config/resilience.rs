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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breakers {
    pub postgres: Breaker<10, 1, 2>,
    pub redis: Breaker<10, 1, 1>,
    pub nats: Breaker<10, 1, 1>,
}

/// When one breaker opens and closes. Its defaults are part of its type, so that a table that sets one key leaves the
/// others as they are for this breaker: faults, seconds of its timeout, successes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker<const FAULTS: u32, const SECONDS: u64, const SUCCESSES: u32> {
    /// So many faults more than successes within `window` open it.
    #[serde(default = "count::<FAULTS>")]
    pub failure_threshold: u32,
    #[serde(default = "seconds::<60>", with = "units::duration")]
    pub window: Duration,
    /// For how long nobody asks; then one call at a time does.
    #[serde(default = "seconds::<SECONDS>", with = "units::duration")]
    pub timeout: Duration,
    /// So many of these calls in a row close it.
    #[serde(default = "count::<SUCCESSES>")]
    pub success_threshold: u32,
}

// Of each field and not of the whole, which serde does not know to do for a type with numbers.
fn count<const N: u32>() -> u32 {
    N
}

fn seconds<const N: u64>() -> Duration {
    Duration::from_secs(N)
}

/// When one breaker opens and closes, as it was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// So many faults within `window` open it.
    pub failure_threshold: u32,
    /// Older faults are forgotten.
    pub window: Duration,
    /// For how long nobody asks.
    pub timeout: Duration,
    /// So many successes in a row close it.
    pub success_threshold: u32,
}

/// `[resilience.bulkheads]`: calls that may wait for an answer at the same time. That of the database is its pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bulkheads {
    pub redis: u32,
    pub nats: u32,
}

impl<const FAULTS: u32, const SECONDS: u64, const SUCCESSES: u32> Default
    for Breaker<FAULTS, SECONDS, SUCCESSES>
{
    fn default() -> Self {
        Self {
            failure_threshold: count::<FAULTS>(),
            window: seconds::<60>(),
            timeout: seconds::<SECONDS>(),
            success_threshold: count::<SUCCESSES>(),
        }
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

impl<const FAULTS: u32, const SECONDS: u64, const SUCCESSES: u32> Breaker<FAULTS, SECONDS, SUCCESSES> {
    /// The same values without their defaults.
    pub fn plain(&self) -> Thresholds {
        let Self { failure_threshold, window, timeout, success_threshold } = *self;
        Thresholds { failure_threshold, window, timeout, success_threshold }
    }

    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        // Each fault within the window is remembered.
        checks.count("failure_threshold", self.failure_threshold.into(), 1..=10_000);
        checks.duration("window", self.window, "100ms", "1h");
        checks.duration("timeout", self.timeout, "10ms", "1h");
        checks.count("success_threshold", self.success_threshold.into(), 1..=1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_sets_one_key_leaves_the_others_as_they_are() {
        let table: Breakers = toml::from_str("postgres.timeout = '9s'").expect("a table");
        let timeout = Duration::from_secs(9);
        assert_eq!(table.postgres, Breaker { timeout, ..Breaker::default() });
        assert_eq!((table.postgres.success_threshold, table.redis.success_threshold), (2, 1));
    }
}
